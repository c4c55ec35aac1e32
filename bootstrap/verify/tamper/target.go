package tamper

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Role is what answers at an endpoint; it decides which requests are tried there.
type Role string

// Roles. All but Other hold evidence, or rule over what does.
const (
	Loki           Role = "Loki"
	ThanosReceive  Role = "Thanos Receive"
	ThanosWeb      Role = "Thanos"
	ThanosGRPC     Role = "Thanos gRPC"
	Prometheus     Role = "Prometheus"
	Alertmanager   Role = "Alertmanager"
	Grafana        Role = "Grafana"
	S3             Role = "S3"
	Logs           Role = "door for logs"
	Metrics        Role = "door for metrics"
	GatewayMetrics Role = "gateway's own metrics"
	KubeAPI        Role = "Kubernetes API"
	Kubelet        Role = "kubelet"
	Etcd           Role = "etcd"
	SSH            Role = "SSH"
	Other          Role = "other"
)

// Target is one address and port of the service cluster.
type Target struct {
	Role    Role
	Name    string // for people: a Service, a pod, a node
	Address string // IP:port
	// Via is the node through which the address is reached; "" for nodes' own addresses.
	Via string
	// guess says that nobody told of it: what usually listens on such a port of a node.
	guess bool
}

// anyNode stands for a route through any node.
const anyNode = "any"

// known maps namespace and port (of the Service or the container) to a role.
func known() map[string]Role {
	return map[string]Role{
		"loki/3100": Loki, "thanos/19291": ThanosReceive, "thanos/10902": ThanosWeb, "thanos/10901": ThanosGRPC,
		"prometheus/9090": Prometheus, "alertmanager/9093": Alertmanager, "alertmanager/9094": Alertmanager, "grafana/3000": Grafana,
		"versitygw/7070": S3, "ingest-gateway/24224": Logs, "ingest-gateway/9443": Metrics, "ingest-gateway/9090": GatewayMetrics,
		"default/443": KubeAPI,
	}
}

// nodePorts are tried on every node, whether something is known to listen there or not.
func nodePorts() map[int]Role {
	return map[int]Role{
		22: SSH, 6443: KubeAPI, 2379: Etcd, 2380: Etcd, 10250: Kubelet, 10255: Kubelet,
		10249: Other, 10256: Other, 10257: KubeAPI, 10259: KubeAPI, 9100: Other, 24224: Logs, 3100: Loki, 9090: Prometheus, 9093: Alertmanager,
		10902: ThanosWeb, 10901: ThanosGRPC, 19291: ThanosReceive, 3000: Grafana, 7070: S3, 9443: Metrics, 2381: Other, 8080: Other, 443: Other, 80: Other,
	}
}

// The range of node ports that is looked through.
const firstNodePort, lastNodePort = 30000, 32767

// discover lists what there is to reach, from the service cluster's own API: an attacker would find it by trying.
func (a *attack) discover(ctx context.Context) error {
	services, err := a.Service.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("tamper: list the service cluster's Services: %w", err)
	}
	pods, err := a.Service.Client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("tamper: list the service cluster's pods: %w", err)
	}
	for _, n := range a.Service.Nodes {
		for port, role := range nodePorts() {
			a.target(Target{Role: role, Name: n.Name(), Address: join(n.Address, port), guess: true})
		}
	}
	for _, s := range services.Items {
		a.service(s)
	}
	for _, p := range pods.Items {
		a.pod(p)
	}
	for role, address := range map[Role]string{Logs: a.Logs, Metrics: a.Options.Metrics, S3: a.Options.S3} {
		if address != "" {
			a.target(Target{Role: role, Name: "the " + string(role), Address: address})
		}
	}
	slices.SortFunc(a.targets, func(x, y Target) int {
		return cmp.Or(cmp.Compare(x.Role, y.Role), cmp.Compare(x.Address, y.Address))
	})
	return nil
}

// target adds one; what is said first of an address counts, except that a role is better than Other.
func (a *attack) target(t Target) {
	for i, had := range a.targets {
		if had.Address == t.Address {
			if had.Role == Other {
				a.targets[i] = t
			}
			return
		}
	}
	a.targets = append(a.targets, t)
}

func (a *attack) service(s corev1.Service) {
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolUDP {
			continue
		}
		role := roleOf(s.Namespace, int(p.Port))
		name := fmt.Sprintf("Service %s/%s", s.Namespace, s.Name)
		if net.ParseIP(s.Spec.ClusterIP) != nil {
			a.target(Target{Role: role, Name: name, Address: join(s.Spec.ClusterIP, int(p.Port)), Via: anyNode})
		}
		if p.NodePort != 0 {
			for _, n := range a.Service.Nodes {
				a.target(Target{Role: role, Name: name + " on node " + n.Name(), Address: join(n.Address, int(p.NodePort))})
			}
		}
	}
}

func (a *attack) pod(p corev1.Pod) {
	if p.Status.PodIP == "" || p.Spec.HostNetwork {
		return
	}
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Protocol == corev1.ProtocolUDP {
				continue
			}
			a.target(Target{
				Role: roleOf(p.Namespace, int(port.ContainerPort)), Name: fmt.Sprintf("pod %s/%s", p.Namespace, p.Name),
				Address: join(p.Status.PodIP, int(port.ContainerPort)), Via: p.Status.HostIP,
			})
		}
	}
}

func roleOf(namespace string, port int) Role {
	if r, ok := known()[namespace+"/"+strconv.Itoa(port)]; ok {
		return r
	}
	return Other
}

func join(ip string, port int) string { return net.JoinHostPort(ip, strconv.Itoa(port)) }

// scanned is how many node ports in a row may time out before the rest is taken for filtered.
const scanned = 64

// scan looks through the range of node ports of every node for what the API does not tell.
func (a *attack) scan(ctx context.Context) {
	var mu sync.Mutex
	open, tried := 0, 0
	for _, n := range a.Service.Nodes {
		silent := 0
		a.pool(ctx, lastNodePort-firstNodePort+1, func(i int) {
			mu.Lock()
			filtered := silent >= scanned
			mu.Unlock()
			if filtered {
				return
			}
			address := join(n.Address, firstNodePort+i)
			conn, err := a.dial(ctx, address)
			mu.Lock()
			defer mu.Unlock()
			tried++
			switch {
			case err == nil:
				_ = conn.Close() // it answers, that was the question
				open++
				a.target(Target{Role: Other, Name: "node port of " + n.Name(), Address: address})
			case isTimeout(err):
				silent++
			default:
				silent = 0
			}
		})
		if silent >= scanned {
			a.note(n.Name(), fmt.Sprintf("its node ports do not answer (%d in a row): a packet filter; the rest of %d-%d was not tried one by one", scanned, firstNodePort, lastNodePort))
		}
	}
	a.doc.Fact("node ports looked through", fmt.Sprintf("%d, of which %d answer", tried, open))
}

// pool calls f for 0 to n-1, Parallel at once.
func (a *attack) pool(ctx context.Context, n int, f func(int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, a.Parallel)
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}

// dial opens a connection from the workload cluster's node.
func (a *attack) dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.DialTimeout)
	defer cancel()
	return a.from.Dial(ctx, "tcp", address)
}
