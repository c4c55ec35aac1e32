package harvest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
)

// pageSize is how many objects one request lists: ConfigMaps may be 1 MiB each.
const pageSize = 200

// maxRelease bounds an unpacked release of Helm, in bytes.
const maxRelease = 32 << 20

// API looks through what a cluster-admin can ask its API server for: Secrets, ConfigMaps, the environments that pods are given,
// and a token of every service account that pods run as. cluster names it in places.
func API(ctx context.Context, client kubernetes.Interface, cluster string, c *Collector) error {
	return errors.Join(
		pages(ctx, func(o metav1.ListOptions) (string, error) {
			list, err := client.CoreV1().Secrets("").List(ctx, o)
			if err != nil {
				return "", fmt.Errorf("harvest the Secrets of %s: %w", cluster, err)
			}
			for _, s := range list.Items {
				if s.Type == bootstrapapi.SecretTypeBootstrapToken {
					id := string(s.Data[bootstrapapi.BootstrapTokenIDKey])
					c.addSecret(Token, cluster+": Secret "+s.Namespace+"/"+s.Name, "bootstrap token "+id, id+"."+string(s.Data[bootstrapapi.BootstrapTokenSecretKey]))
					continue // its other keys say what it may be used for
				}
				c.object(cluster+": Secret ", s.ObjectMeta, s.Data, s.Type != "helm.sh/release.v1")
			}
			return list.Continue, nil
		}),
		pages(ctx, func(o metav1.ListOptions) (string, error) {
			list, err := client.CoreV1().ConfigMaps("").List(ctx, o)
			if err != nil {
				return "", fmt.Errorf("harvest the ConfigMaps of %s: %w", cluster, err)
			}
			for _, m := range list.Items {
				data := map[string][]byte{}
				for k, v := range m.Data {
					data[k] = []byte(v)
				}
				c.object(cluster+": ConfigMap ", m.ObjectMeta, data, false)
			}
			return list.Continue, nil
		}),
		c.pods(ctx, client, cluster),
	)
}

// object looks through the data and annotations of one Secret or ConfigMap.
func (c *Collector) object(prefix string, m metav1.ObjectMeta, data map[string][]byte, secret bool) {
	place := prefix + m.Namespace + "/" + m.Name
	c.Values(place, data, secret)
	if values, manifest, ok := release(data["release"]); ok {
		c.Text(place+" (values of a release of Helm)", values)
		c.Text(place+" (manifest of a release of Helm)", manifest)
	}
	for name, value := range m.Annotations {
		c.text(place+" annotation "+name, []byte(value), 0)
	}
}

// release unpacks a release as Helm stores it, base64 of gzip of JSON: the values that were given, and the manifest.
func release(packed []byte) (values, manifest []byte, ok bool) {
	if len(packed) == 0 {
		return nil, nil, false
	}
	plain, ok := unpack(string(packed))
	if !ok {
		return nil, nil, false
	}
	z, err := gzip.NewReader(bytes.NewReader(plain))
	if err != nil {
		return nil, nil, false
	}
	var r struct {
		Config   json.RawMessage `json:"config"`
		Manifest string          `json:"manifest"`
	}
	if err := json.NewDecoder(io.LimitReader(z, maxRelease)).Decode(&r); err != nil {
		return nil, nil, false
	}
	return r.Config, []byte(r.Manifest), true
}

func (c *Collector) pods(ctx context.Context, client kubernetes.Interface, cluster string) error {
	asked := map[string]bool{}
	return pages(ctx, func(o metav1.ListOptions) (string, error) {
		list, err := client.CoreV1().Pods("").List(ctx, o)
		if err != nil {
			return "", fmt.Errorf("harvest the pods of %s: %w", cluster, err)
		}
		for _, p := range list.Items {
			place := cluster + ": Pod " + p.Namespace + "/" + p.Name
			for _, k := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
				env := map[string][]byte{}
				for _, e := range k.Env {
					env[e.Name] = []byte(e.Value)
				}
				c.values(place+" variable ", env, false)
				for _, a := range append(append([]string{}, k.Command...), k.Args...) {
					c.text(place+" argument", []byte(a), 0)
				}
			}
			account := p.Namespace + "/" + p.Spec.ServiceAccountName
			if p.Spec.ServiceAccountName == "" || asked[account] {
				continue
			}
			asked[account] = true
			seconds := int64(3600)
			t, err := client.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, p.Spec.ServiceAccountName,
				&authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
			if err != nil {
				continue // the account may be gone; the pod's own token lies on its node
			}
			c.text(cluster+": a token of service account "+account, []byte(t.Status.Token), 0)
		}
		return list.Continue, nil
	})
}

// pages calls f until the list is at its end.
func pages(ctx context.Context, f func(metav1.ListOptions) (string, error)) error {
	o := metav1.ListOptions{Limit: pageSize}
	for {
		next, err := f(o)
		if err != nil || next == "" {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.Continue = next
	}
}
