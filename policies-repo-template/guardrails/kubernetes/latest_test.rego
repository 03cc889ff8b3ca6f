package kubernetes.latest_test

import data.kubernetes.latest

pod(image) := {
	"kind": "Pod",
	"metadata": {"name": "web"},
	"spec": {"containers": [{"name": "app", "image": image}]},
}

test_images_without_a_fixed_version_are_denied if {
	every image in ["nginx", "nginx:latest", "nginx:", "localhost:5000/app", "registry.example.com/team/app:latest"] {
		count(latest.deny_latest) == 1 with input as pod(image)
	}
}

test_images_with_a_fixed_version_are_fine if {
	every image in ["nginx:1.29.1", "localhost:5000/app:2", "app@sha256:9f86d0", "app:latest@sha256:9f86d0"] {
		count(latest.deny_latest) == 0 with input as pod(image)
	}
}

test_the_message_names_container_and_image if {
	some message in latest.deny_latest with input as pod("nginx")
	startswith(message, "Pod web: container 'app' uses image 'nginx' without a fixed version")
}
