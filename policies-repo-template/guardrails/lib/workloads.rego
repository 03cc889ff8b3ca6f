# What the guardrails of Kubernetes workloads share: the pod an object is or makes, and its containers.
package lib.workloads

templates := {"DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}

pod := input if input.kind == "Pod"

pod := input.spec.template if input.kind in templates

pod := input.spec.jobTemplate.spec.template if input.kind == "CronJob"

# Every container of the pod: those that run first, those that run, and those that `kubectl debug` adds later.
containers contains {"name": name, "spec": container} if {
	some field in ["initContainers", "containers", "ephemeralContainers"]
	some number, container in pod.spec[field]
	name := object.get(container, "name", sprintf("%s[%d]", [field, number]))
}

# How messages name the object: `Deployment web`.
label := sprintf("%s %s", [input.kind, object.get(input, ["metadata", "name"], "without a name")])
