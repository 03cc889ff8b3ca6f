# A container that runs as root is one kernel bug away from root on the node.
package kubernetes.run_as_non_root

import data.lib.workloads

deny_root contains message if {
	some container in workloads.containers
	spec := container.spec
	not runs_as_non_root(spec)
	message := sprintf(
		"%s: container '%s' may run as root; set securityContext.runAsNonRoot: true on the pod or on the container",
		[workloads.label, container.name],
	)
}

runs_as_non_root(spec) if spec.securityContext.runAsNonRoot == true

# The pod's setting counts for containers that have none of their own.
runs_as_non_root(spec) if {
	not has_own_setting(spec)
	workloads.pod.spec.securityContext.runAsNonRoot == true
}

has_own_setting(spec) if is_boolean(spec.securityContext.runAsNonRoot)
