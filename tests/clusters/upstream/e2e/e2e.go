// Package e2e pins Kubernetes' own tests, which `go test -c` builds from their package.
package e2e

import _ "k8s.io/kubernetes/test/e2e"
