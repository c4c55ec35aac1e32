package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/catamaran-k8s/catamaran/bootstrap/plan"
	"github.com/catamaran-k8s/catamaran/inventory"
	testsite "github.com/catamaran-k8s/catamaran/test/site"
)

func testClustersAreHealthy(t *testing.T) {
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		t.Run(string(c), func(t *testing.T) {
			spec, api := inv.Cluster(c), s.site.Client(t, c)
			nodes, err := api.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
			require.NoError(t, err)
			var names, want []string
			for _, n := range nodes.Items {
				names = append(names, n.Name)
				assert.Equal(t, "v"+spec.Version, n.Status.NodeInfo.KubeletVersion, n.Name)
				assert.Contains(t, n.Status.NodeInfo.ContainerRuntimeVersion, "containerd://2.", n.Name)
				assert.True(t, testsite.Ready(&n), "%s is ready", n.Name)
			}
			for _, n := range spec.PresentNodes() {
				want = append(want, n.Name)
			}
			assert.ElementsMatch(t, want, names)

			pods, err := api.CoreV1().Pods("").List(s.ctx, metav1.ListOptions{})
			require.NoError(t, err)
			assert.Greater(t, len(pods.Items), 8)
			for _, p := range pods.Items {
				assert.Contains(t, []corev1.PodPhase{corev1.PodRunning, corev1.PodSucceeded}, p.Status.Phase, "%s/%s", p.Namespace, p.Name)
			}
		})
	}
}

// Traffic is proven by pods that must reach the API server's Service, a Service's pods and pods on other nodes by name
// before they are ready: the smoke chart.
func testTraffic(t *testing.T) {
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		t.Run(string(c), func(t *testing.T) {
			api := s.site.Client(t, c)
			s.site.Eventually(t, 3*time.Minute, func(ctx context.Context) error {
				set, err := api.AppsV1().StatefulSets("smoke").Get(ctx, "smoke-node", metav1.GetOptions{})
				if err != nil {
					return err
				}
				if want := int32(len(inv.Cluster(c).PresentNodes())); set.Status.ReadyReplicas != want {
					return fmt.Errorf("%d of %d are ready", set.Status.ReadyReplicas, want)
				}
				return nil
			})
			// metrics pass kubelet's serving certificate, the API aggregation and a Service
			s.site.Eventually(t, 2*time.Minute, func(ctx context.Context) error {
				raw, err := api.RESTClient().Get().AbsPath("/apis/metrics.k8s.io/v1beta1/nodes").DoRaw(ctx)
				if err != nil {
					return err
				}
				for _, n := range inv.Cluster(c).PresentNodes() {
					if !strings.Contains(string(raw), `"`+n.Name+`"`) {
						return fmt.Errorf("no metrics of %s: %s", n.Name, raw)
					}
				}
				return nil
			})
		})
	}
}

// What hardening promises is asked of the running servers.
func testHardening(t *testing.T) {
	inv := s.site.Load(t)
	for _, c := range inv.ClusterNames() {
		t.Run(string(c), func(t *testing.T) {
			spec, api := inv.Cluster(c), s.site.Client(t, c)
			plane := spec.ControlPlanes()[0]

			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "at-rest"}, StringData: map[string]string{"k": "plain-text-marker of " + string(c)}} // the clusters share no secret
			_, err := api.CoreV1().Secrets("default").Create(s.ctx, secret, metav1.CreateOptions{})
			require.NoError(t, err)
			raw, err := s.machines.root(s.ctx, plane.Name, `ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/healthcheck-client.crt --key /etc/kubernetes/pki/etcd/healthcheck-client.key get /registry/secrets/default/at-rest --print-value-only`, nil)
			require.NoError(t, err)
			assert.True(t, strings.HasPrefix(raw, "k8s:enc:secretbox:"), "%.30q", raw)
			assert.NotContains(t, raw, "plain-text-marker")

			// whichever carried the VIP was asked; its log may have been rotated since
			audited := ""
			for _, n := range spec.ControlPlanes() {
				audit, err := s.machines.root(s.ctx, n.Name, "cat /var/log/kubernetes/audit/*.log", nil)
				require.NoError(t, err)
				audited += audit
			}
			assert.Contains(t, audited, `"name":"at-rest"`, "the audit log of one of them tells of it")
			assert.NotContains(t, audited, "plain-text-marker")

			insecure := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // only the status is looked at
			kubelet := "https://" + plan.HostPort(plane.Address, 10250) + "/pods"
			urls := map[string]int{
				"https://" + plan.HostPort(plane.Address, 6443) + "/api/v1/nodes": http.StatusUnauthorized,
				"https://" + plan.HostPort(plane.Address, 6443) + "/version":      http.StatusUnauthorized,
				"https://" + plan.HostPort(plane.Address, 6443) + "/livez":        http.StatusOK,
			}
			if c == inventory.Service {
				// the firewall lets only the cluster's own nodes and pods through
				_, err := insecure.Get(kubelet) //nolint:noctx,bodyclose // it has a timeout, and there is no answer
				assert.ErrorIs(t, err, context.DeadlineExceeded)
			} else {
				urls[kubelet] = http.StatusUnauthorized
			}
			for url, want := range urls {
				r, err := insecure.Get(url) //nolint:noctx // it has a timeout
				require.NoError(t, err)
				_ = r.Body.Close()
				assert.Equal(t, want, r.StatusCode, url)
			}
			assert.Contains(t, plan.Server(spec), spec.Endpoint.Address)
		})
	}
}
