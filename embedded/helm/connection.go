package helm

import (
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Client-side rate limits. client-go's own 5 and 10 make a chart of 30 objects wait for seconds; the API server has
// its own fairness.
const (
	requestsPerSecond = 50
	requestBurst      = 100
)

// connection is one cluster's clients, all on one configuration; discovery is asked once and shared.
type connection struct {
	config    *rest.Config
	clients   kubernetes.Interface
	dynamic   dynamic.Interface
	discovery discovery.CachedDiscoveryInterface
	mapper    *restmapper.DeferredDiscoveryRESTMapper
}

func connect(config *rest.Config) (*connection, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = requestsPerSecond, requestBurst
	config.WarningHandler = rest.NoWarnings{} // Helm's clients tell the log, see forNamespace
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	cached := memory.NewMemCacheClient(clients.Discovery())
	return &connection{config, clients, dyn, cached, restmapper.NewDeferredDiscoveryRESTMapper(cached)}, nil
}

// forNamespace is what Helm asks for its clients.
type forNamespace struct {
	*connection
	namespace string
	log       func(string)
}

func (c forNamespace) ToRESTConfig() (*rest.Config, error) {
	config := rest.CopyConfig(c.config)
	config.WarningHandler = &warnings{log: c.log}
	return config, nil
}

// warnings logs what the API server warns of, such as pods that a stricter namespace would refuse. client-go would
// print it on standard error, across the progress view.
type warnings struct {
	log  func(string)
	seen sync.Map
}

func (w *warnings) HandleWarningHeader(code int, _, text string) {
	const warning = 299 // the only code that Kubernetes uses, "miscellaneous persistent warning"
	if code != warning || text == "" {
		return
	}
	if _, again := w.seen.LoadOrStore(text, true); !again {
		w.log("warning: " + text)
	}
}

func (c forNamespace) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return c.discovery, nil
}

func (c forNamespace) ToRESTMapper() (meta.RESTMapper, error) { return c.mapper, nil }

func (c forNamespace) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: c.namespace}}
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides)
}

// configuration returns Helm's view of one namespace. Helm's wait is replaced by ours: its own counts a DaemonSet with
// one node and no ready pod as ready, ignores jobs and can not be stopped.
func (c *connection) configuration(namespace string, log func(string), wait func(kube.ResourceList, time.Duration) error) (*action.Configuration, error) {
	cfg := &action.Configuration{}
	// Helm's debug log prints whole release objects, values included
	silent := func(string, ...any) {}
	if err := cfg.Init(forNamespace{c, namespace, log}, namespace, "secret", silent); err != nil {
		return nil, err
	}
	client := cfg.KubeClient.(*kube.Client)
	client.Namespace = namespace
	cfg.KubeClient = &waitingClient{client, wait}
	return cfg, nil
}

// waitingClient is Helm's client with our wait.
type waitingClient struct {
	*kube.Client
	wait func(kube.ResourceList, time.Duration) error
}

func (c *waitingClient) Wait(resources kube.ResourceList, timeout time.Duration) error {
	return c.wait(resources, timeout)
}

func (c *waitingClient) WaitWithJobs(resources kube.ResourceList, timeout time.Duration) error {
	return c.wait(resources, timeout)
}
