package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/workqueue"
)

const (
	wanted = "client-go/wants-copy"
	suffix = "-copy"
)

// manage runs a controller as operators in Go do: leader election by the Lease "manager", then an
// informer and a work queue. For each ConfigMap labelled client-go/wants-copy it creates
// another one, owned by the first.
func manage() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(namespaceFile)
	if err != nil {
		return err
	}
	namespace := strings.TrimSpace(string(content))
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  meta.ObjectMeta{Namespace: namespace, Name: "manager"},
		Client:     clientset.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host},
	}
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     time.Second,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { copyAll(ctx, clientset, namespace) },
			OnStoppedLeading: func() { fmt.Println("no longer leading") },
		},
	})
	return nil
}

func copyAll(ctx context.Context, clientset kubernetes.Interface, namespace string) {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	context.AfterFunc(ctx, queue.ShutDown)
	factory := informers.NewSharedInformerFactoryWithOptions(clientset, 0,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *meta.ListOptions) { o.LabelSelector = wanted }))
	informer := factory.Core().V1().ConfigMaps()
	add := func(object any) { queue.Add(object.(*core.ConfigMap).Name) }
	informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	fmt.Println("leading")
	for {
		name, ended := queue.Get()
		if ended {
			return
		}
		source, err := informer.Lister().ConfigMaps(namespace).Get(name)
		if err == nil {
			err = copyOne(ctx, clientset, source)
		}
		if err != nil && !errors.IsNotFound(err) {
			fmt.Println(err)
			queue.AddRateLimited(name)
		} else {
			queue.Forget(name)
		}
		queue.Done(name)
	}
}

func copyOne(ctx context.Context, clientset kubernetes.Interface, source *core.ConfigMap) error {
	owner := meta.NewControllerRef(source, core.SchemeGroupVersion.WithKind("ConfigMap"))
	child := &core.ConfigMap{
		ObjectMeta: meta.ObjectMeta{
			Name: source.Name + suffix, OwnerReferences: []meta.OwnerReference{*owner},
		},
		Data: source.Data,
	}
	_, err := clientset.CoreV1().ConfigMaps(source.Namespace).Create(ctx, child, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
