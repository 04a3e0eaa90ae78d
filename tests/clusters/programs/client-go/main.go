// A real client-go program with the library's unchanged in-cluster loader: it says who it is and
// what it sees, as one JSON line. The other clients of the test image print the same line.
// With the argument "stay" it then lives until SIGTERM, where the image has no shell to see to that.
// With the argument "manage" it is a controller instead.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"

	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

type sight struct {
	Client    string              `json:"client"`
	Host      *string             `json:"host"`
	Namespace *string             `json:"namespace"`
	Username  *string             `json:"username"`
	Extra     map[string][]string `json:"extra"`
	Pods      []string            `json:"pods"`
	Error     *string             `json:"error"`
}

func look(ctx context.Context, seen *sight) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	seen.Host = &config.Host
	content, err := os.ReadFile(namespaceFile)
	if err != nil {
		return err
	}
	namespace := strings.TrimSpace(string(content))
	seen.Namespace = &namespace
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	review, err := clientset.AuthenticationV1().SelfSubjectReviews().Create(
		ctx, &authentication.SelfSubjectReview{}, meta.CreateOptions{})
	if err != nil {
		return err
	}
	seen.Username = &review.Status.UserInfo.Username
	for key, values := range review.Status.UserInfo.Extra {
		seen.Extra[key] = values
	}
	pods, err := clientset.CoreV1().Pods(namespace).List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for _, pod := range pods.Items {
		seen.Pods = append(seen.Pods, pod.Name)
	}
	sort.Strings(seen.Pods)
	return nil
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "manage" {
		if err := manage(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	seen := sight{Client: "go", Extra: map[string][]string{}, Pods: []string{}}
	err := look(context.Background(), &seen)
	if err != nil {
		message := err.Error()
		seen.Error = &message
	}
	encoded := json.NewEncoder(os.Stdout).Encode(seen)
	if len(os.Args) > 1 && os.Args[1] == "stay" {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		<-ended
	}
	if encoded != nil || err != nil {
		os.Exit(1)
	}
}
