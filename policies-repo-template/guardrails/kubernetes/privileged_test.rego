package kubernetes.privileged_test

import data.kubernetes.privileged

# A pod with one container under `field`, with this security context.
pod(field, context) := {
	"apiVersion": "v1",
	"kind": "Pod",
	"metadata": {"name": "web"},
	"spec": {field: [{"name": "app", "securityContext": context}]},
}

# A workload of `kind` that makes such a pod.
workload(kind, context) := {
	"apiVersion": "apps/v1",
	"kind": kind,
	"metadata": {"name": "web"},
	"spec": {"template": pod("containers", context)},
}

test_every_kind_of_container_is_looked_at if {
	every field in ["containers", "initContainers", "ephemeralContainers"] {
		count(privileged.deny_privileged) == 1 with input as pod(field, {"privileged": true})
	}
}

test_every_kind_of_workload_is_looked_at if {
	every kind in ["DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"] {
		count(privileged.deny_privileged) == 1 with input as workload(kind, {"privileged": true})
	}
}

test_cron_jobs_are_looked_at if {
	cron_job := {
		"kind": "CronJob",
		"metadata": {"name": "nightly"},
		"spec": {"jobTemplate": workload("Job", {"privileged": true})},
	}
	count(privileged.deny_privileged) == 1 with input as cron_job
}

test_the_message_names_object_and_container if {
	some message in privileged.deny_privileged with input as workload("Deployment", {"privileged": true})
	startswith(message, "Deployment web: container 'app' must not be privileged")
}

test_unprivileged_is_fine if {
	count(privileged.deny_privileged) == 0 with input as pod("containers", {"privileged": false})
	count(privileged.deny_privileged) == 0 with input as pod("containers", {})
}

test_other_objects_are_fine if {
	count(privileged.deny_privileged) == 0 with input as {"kind": "ConfigMap", "data": {"privileged": "true"}}
}
