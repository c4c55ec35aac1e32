package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/catamaran-k8s/catamaran/bootstrap"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/harvest"
	"github.com/catamaran-k8s/catamaran/bootstrap/verify/tamper"
	"github.com/catamaran-k8s/catamaran/inventory"
)

func newVerifyTamper(g *global) *cobra.Command {
	var o tamper.Options
	var format string
	c := &cobra.Command{
		Use:   "tamper",
		Short: "Attack the service cluster with everything that the workload cluster holds",
		Long: `Tamper delivers markers, harvests every credential of the workload cluster as its administrator and as root of its nodes, and tries
each of them, and forgeries made with them, from one of its nodes at everything of the service cluster that can be reached. What was
delivered must be the same afterwards, and what was appended must carry the workload cluster's own name.

The attack is real: run it on a site that you may attack. What would do damage is sent only where nothing harmless has worked. It
leaves a few log records and series that say catamaran_verify, and failed logins.
Exit codes: 0 everything was refused, 1 something worked, 4 it could not be judged.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := g.check()
			if err != nil {
				return err
			}
			defer k.site.Close()
			o.Subject, o.Progress = k.subject, attackProgress(g.progress)
			if err := prepareAttack(cmd.Context(), k.site, &o); err != nil {
				return err
			}
			d, err := tamper.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return k.finish(d, format)
		},
	}
	f := c.Flags()
	f.StringVarP(&format, "output", "o", "text", "text or json")
	f.BoolVar(&o.NoMarkers, "no-markers", false, "deliver no markers of its own; compare what was delivered before")
	f.IntVar(&o.Parallel, "parallel", 32, "most connections at once")
	f.DurationVar(&o.DialTimeout, "dial-timeout", 0, "how long one connection may take (default 3s)")
	f.BoolVar(&o.OpenPath, "open-path", false, "put credentials of the service cluster among the harvested ones: the verdict must be a failure")
	if err := f.MarkHidden("open-path"); err != nil {
		panic(err) // the flag is the line above
	}
	return c
}

func attackProgress(mode string) func(string) {
	out := io.Writer(os.Stderr)
	if mode == "none" || mode == "json" {
		out = io.Discard
	}
	return func(text string) { _, _ = fmt.Fprintln(out, text) }
}

// prepareAttack fills in what the site says.
func prepareAttack(ctx context.Context, s *bootstrap.Site, o *tamper.Options) error {
	if err := s.FindMachines(ctx); err != nil {
		return err
	}
	inv := s.Inventory
	if inv.Clusters.Service == nil || inv.Clusters.Workload == nil {
		return errors.New("verify tamper needs both clusters in one inventory: it attacks one from the other")
	}
	if !inv.Platform.On() {
		return errors.New("verify tamper: platform.enabled is false, so nothing is delivered that could be attacked")
	}
	ingest := inv.Platform.Ingest
	o.Tenant = inv.Platform.Tenant
	o.Logs, o.Metrics = net.JoinHostPort(ingest.Address, strconv.Itoa(ingest.ForwardPort)), net.JoinHostPort(ingest.Address, strconv.Itoa(ingest.MetricsPort))
	for _, side := range []struct {
		name inventory.ClusterName
		to   *tamper.Cluster
	}{{inventory.Service, &o.Service}, {inventory.Workload, &o.Workload}} {
		if err := attackSide(ctx, s, side.name, side.to); err != nil {
			return err
		}
	}
	stores, err := attackStores(ctx, s, o)
	if err != nil {
		return err
	}
	o.Stores = stores
	o.Control, err = controlCredentials(ctx, s, o.Service.Client)
	return err
}

func attackSide(ctx context.Context, s *bootstrap.Site, name inventory.ClusterName, to *tamper.Cluster) error {
	client, hosts, err := reached(ctx, s, name)
	if err != nil {
		return err
	}
	spec := s.Inventory.Cluster(name)
	to.Client, to.PodCIDR, to.ServiceCIDR = client, spec.Network.PodCIDR, spec.Network.ServiceCIDR
	for i, n := range spec.PresentNodes() {
		to.Nodes = append(to.Nodes, tamper.Node{Machine: hosts[i], Address: n.Address, User: s.Inventory.SSHFor(name, &n).User})
	}
	return nil
}

// attackStores reads what the service cluster holds, and says where an S3 of the site's own is to be attacked.
func attackStores(ctx context.Context, s *bootstrap.Site, o *tamper.Options) (tamper.Stores, error) {
	if own := s.Inventory.Platform.ObjectStorage; own != nil {
		var err error
		o.Bucket, o.Region = own.Buckets.Evidence, own.Region
		if o.S3, err = hostPort(own.Endpoint); err != nil {
			return nil, err
		}
	}
	st, err := openStores(ctx, s)
	if err != nil {
		return nil, err
	}
	return attackedStores{st}, nil
}

// attackedStores are the stores in the words of tamper.
type attackedStores struct{ *stores }

// Versions implements tamper.Stores.
func (s attackedStores) Versions(ctx context.Context) iter.Seq2[tamper.Version, error] {
	return func(yield func(tamper.Version, error) bool) {
		for v, err := range s.bucket.Versions(ctx, "") {
			if !yield(tamper.Version{Key: v.Key, ID: v.ID, ETag: v.ETag, Size: v.Size, Deleted: v.Deleted}, err) {
				return
			}
		}
	}
}

// Object implements tamper.Stores.
func (s attackedStores) Object(ctx context.Context, key, version string) ([]byte, error) {
	body, _, err := s.bucket.Object(ctx, key, version)
	return body, err
}

func accessKey(k inventory.AccessKey, dir string) (id, secret string, err error) {
	access, err := k.Access.Read(dir)
	if err != nil {
		return "", "", err
	}
	hidden, err := k.Secret.Read(dir)
	return string(access), string(hidden), err
}

func hostPort(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "443"), nil
	}
	return u.Host, nil
}

// controlCredentials are the service cluster's own: certificates made for this, and the Secrets of S3's root and Grafana's admin.
func controlCredentials(ctx context.Context, s *bootstrap.Site, client kubernetes.Interface) ([]harvest.Credential, error) {
	certs, err := s.ControlCertificates()
	if err != nil {
		return nil, err
	}
	var out []harvest.Credential
	for name, cert := range certs {
		c, err := harvest.FromTLS(name, cert)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	salt, err := harvest.NewSalt()
	if err != nil {
		return nil, err
	}
	found := harvest.NewCollector(salt)
	for _, at := range []struct{ namespace, name string }{{"versitygw", "versitygw-root"}, {"grafana", "grafana-admin"}} {
		secret, err := client.CoreV1().Secrets(at.namespace).Get(ctx, at.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err): // not installed: there is nothing to control then
		case err != nil:
			return nil, fmt.Errorf("service: Secret %s/%s: %w", at.namespace, at.name, err)
		default:
			found.Values("service: Secret "+at.namespace+"/"+at.name, secret.Data, secret.Type == corev1.SecretTypeOpaque)
		}
	}
	out = append(out, found.Credentials()...)
	slices.SortFunc(out, func(a, b harvest.Credential) int { return slices.Compare(a.Places, b.Places) })
	return out, nil
}
