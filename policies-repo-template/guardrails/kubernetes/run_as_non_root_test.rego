package kubernetes.run_as_non_root_test

import data.kubernetes.run_as_non_root as root

# A pod with its own security context and one container with another.
pod(pod_context, container_context) := {
	"kind": "Pod",
	"metadata": {"name": "web"},
	"spec": {
		"securityContext": pod_context,
		"containers": [{"name": "app", "securityContext": container_context}],
	},
}

non_root := {"runAsNonRoot": true}

may_be_root := {"runAsNonRoot": false}

test_said_on_the_container if {
	count(root.deny_root) == 0 with input as pod({}, non_root)
	count(root.deny_root) == 0 with input as pod(may_be_root, non_root)
}

test_said_on_the_pod if {
	count(root.deny_root) == 0 with input as pod(non_root, {})
	count(root.deny_root) == 0 with input as pod(non_root, non_root)
}

test_said_nowhere if {
	count(root.deny_root) == 1 with input as pod({}, {})
	count(root.deny_root) == 1 with input as {"kind": "Pod", "spec": {"containers": [{"name": "app"}]}}
}

test_the_container_overrides_the_pod if {
	count(root.deny_root) == 1 with input as pod(non_root, may_be_root)
}

test_init_and_debug_containers_are_looked_at if {
	every field in ["initContainers", "ephemeralContainers"] {
		count(root.deny_root) == 1 with input as {"kind": "Pod", "spec": {field: [{"name": "app"}]}}
	}
}

test_workloads_are_looked_at if {
	deployment := {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": pod({}, {})}}
	some message in root.deny_root with input as deployment
	startswith(message, "Deployment web: container 'app' may run as root")
}
