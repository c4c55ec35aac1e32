// Package flow proves that no record is lost on its way from the workload cluster into the evidence: pods print numbered
// lines at a steady rate, parts of a live site are killed or cut off meanwhile, and at the end every line is looked for in
// the locked objects and in Loki.
//
//	f, err := flow.Start(ctx, site, flow.Options{Rate: 1000, Duration: 10 * time.Minute})
//	defer f.Close()
//	err = f.Run(ctx, []flow.Fault{flow.KillGateway(), flow.StopLoki(time.Minute)})
//	err = f.Wait(ctx)
//	report, err := f.Check(ctx)
//	report.Problems() // what is not as it has to be
//
// What it breaks it mends again, also after an error. It looks at the site from outside: through SSH of its nodes, and by
// what the documents of the ingest gateway say of the format of objects.
package flow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/query"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/chain"
	"github.com/catamaran-k8s/catamaran/cmd/ingest-gateway/store"
	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/onprem"
)

// Site is a live site with the platform in both clusters.
type Site struct {
	site    *bootstrap.Site
	clients map[inventory.ClusterName]kubernetes.Interface
	stores  *query.Stores
	bucket  *store.S3
	tenant  string
}

// Open reads an inventory and connects to its clusters. The platform's own object store is the one that is looked at.
func Open(ctx context.Context, path string) (*Site, error) {
	b, err := bootstrap.Open(path, bootstrap.Options{Providers: provider.Registry{"onprem": onprem.New()}, Operator: "chaos"})
	if err != nil {
		return nil, err
	}
	s := &Site{site: b, clients: map[inventory.ClusterName]kubernetes.Interface{}, tenant: b.Inventory.Platform.Tenant}
	if err := s.connect(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return s, nil
}

func (s *Site) connect(ctx context.Context) error {
	inv := s.site.Inventory
	if inv.Clusters.Service == nil || inv.Clusters.Workload == nil || !inv.Platform.On() || inv.Platform.ObjectStorage != nil {
		return fmt.Errorf("%s: expected both clusters and the platform with its own object store", inv.Path)
	}
	for _, c := range inv.ClusterNames() {
		config, err := s.site.API(ctx, c)
		if err != nil {
			return err
		}
		// what is asked here are lists of a few pods, often
		config.QPS, config.Burst = 50, 100
		if s.clients[c], err = kubernetes.NewForConfig(config); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	ca, err := s.site.ServiceCA()
	if err != nil {
		return err
	}
	service := s.clients[inventory.Service]
	reader, err := service.CoreV1().Secrets("versitygw").Get(ctx, "versitygw-reader", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("the key that reads the evidence: %w; is the platform installed?", err)
	}
	way, err := s.site.Host(ctx, inv.Clusters.Service.ControlPlanes()[0].Name)
	if err != nil {
		return err
	}
	keys := query.Keys{ServiceCA: ca, ReaderAccess: string(reader.Data["access"]), ReaderSecret: string(reader.Data["secret"])}
	if s.stores, err = query.New(way.Dial, service, keys, s.site.Operator); err != nil {
		return err
	}
	s.bucket, err = s.stores.Evidence(query.Bucket{})
	return err
}

// Close ends all connections.
func (s *Site) Close() { s.site.Close() }

// root runs a script as root on a node and returns what it printed.
func (s *Site) root(ctx context.Context, node, script string) (string, error) {
	h, err := s.site.Host(ctx, node)
	if err != nil {
		return "", err
	}
	r, err := h.Run(ctx, remote.Command{Script: script, Root: true})
	if err != nil {
		return "", fmt.Errorf("%s: %w", node, err)
	}
	return string(bytes.TrimSpace(r.Stdout)), nil
}

// part is one of the platform's programs.
type part struct {
	cluster   inventory.ClusterName
	namespace string
	// node says which of its pods is meant, where it has one on each node.
	node string
}

// pods finds the part's pods.
func (s *Site) pods(ctx context.Context, p part) ([]corev1.Pod, error) {
	list, err := s.clients[p.cluster].CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return p.node != "" && p.node != pod.Spec.NodeName }), nil
}

// running finds those that are not on their way out.
func (s *Site) running(ctx context.Context, p part) ([]corev1.Pod, error) {
	pods, err := s.pods(ctx, p)
	return slices.DeleteFunc(pods, func(pod corev1.Pod) bool {
		return pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning
	}), err
}

// signal sends a signal to the processes of the part's containers, on their nodes: nothing of Kubernetes is asked for it.
func (s *Site) signal(ctx context.Context, p part, signal string) error {
	pods, err := s.running(ctx, p)
	if err != nil {
		return err
	}
	hit := 0
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			_, id, ok := strings.Cut(c.ContainerID, "://")
			if !ok || c.State.Running == nil {
				continue
			}
			// the container's id is in the name of its control group, whatever the version
			script := fmt.Sprintf(`n=0; for p in /proc/[0-9]*; do if grep -q %s $p/cgroup 2>/dev/null; then kill -%s ${p#/proc/} && n=$((n+1)); fi; done; test $n -gt 0`, id, signal)
			if _, err := s.root(ctx, pod.Spec.NodeName, script); err != nil {
				return fmt.Errorf("no process of %s/%s took a SIG%s: %w", pod.Namespace, pod.Name, signal, err)
			}
			hit++
		}
	}
	if hit == 0 {
		return fmt.Errorf("the namespace %s of the %s cluster has no running container to send a SIG%s to", p.namespace, p.cluster, signal)
	}
	return nil
}

// end is where the tenant's chain ends now.
func (s *Site) end(ctx context.Context) (chain.Point, error) {
	numbers, err := s.stores.Sequences(ctx)
	if err != nil {
		return chain.Point{}, err
	}
	n := numbers[s.tenant]
	if n == 0 {
		return chain.Point{}, errors.New("the ingest gateway has stored nothing yet: is the platform healthy?")
	}
	body, err := s.bucket.Get(ctx, chain.Key(s.tenant, n), 0)
	if err != nil {
		return chain.Point{}, err
	}
	sum := sha256.Sum256(body)
	return chain.Point{Sequence: n, SHA256: hex.EncodeToString(sum[:])}, nil
}
