# `:latest`, or no tag at all, runs whatever the registry holds at the moment the node pulls: nobody can say what ran.
package kubernetes.latest

import data.lib.workloads

deny_latest contains message if {
	some container in workloads.containers
	image := container.spec.image
	not pinned(image)
	message := sprintf(
		"%s: container '%s' uses image '%s' without a fixed version; give it a tag other than 'latest', or better a digest",
		[workloads.label, container.name, image],
	)
}

# A digest fixes the image whatever the tag says.
pinned(image) if contains(image, "@")

# The tag stands after the last colon of the last part: `localhost:5000/app` has a port and no tag.
pinned(image) if {
	parts := split(image, "/")
	[_, tag] := split(parts[count(parts) - 1], ":")
	tag != "latest"
	tag != ""
}
