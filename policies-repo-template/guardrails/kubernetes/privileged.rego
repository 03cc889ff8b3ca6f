# A privileged container has every right of its node: whoever breaks into it owns the node.
package kubernetes.privileged

import data.lib.workloads

deny_privileged contains message if {
	some container in workloads.containers
	container.spec.securityContext.privileged == true
	message := sprintf(
		"%s: container '%s' must not be privileged; remove securityContext.privileged and add the capabilities it needs one by one",
		[workloads.label, container.name],
	)
}
