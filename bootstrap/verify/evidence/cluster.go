package evidence

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// API is what a cluster is asked through.
type API struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
}

// lists are the answers of one API server.
type lists struct {
	pods        []corev1.Pod
	namespaces  []corev1.Namespace
	policies    []networkingv1.NetworkPolicy
	bindings    []rbacv1.ClusterRoleBinding
	roles       []rbacv1.ClusterRole
	secrets     []corev1.Secret
	daemons     []daemon
	cronJobs    []batchv1.CronJob
	constraints []unstructured.Unstructured
	gatekeeper  bool
}

type daemon struct {
	namespace, name string
	ready, wanted   int
}

// readCluster asks a cluster's API server everything at once, and returns what could not be read.
func readCluster(ctx context.Context, a API, c *Cluster) []Gap {
	var l lists
	all := metav1.ListOptions{}
	questions := []struct {
		what string
		ask  func() error
	}{
		{"pods", func() error {
			r, err := a.Client.CoreV1().Pods("").List(ctx, all)
			if err == nil {
				l.pods = r.Items
			}
			return err
		}},
		{"namespaces", func() error {
			r, err := a.Client.CoreV1().Namespaces().List(ctx, all)
			if err == nil {
				l.namespaces = r.Items
			}
			return err
		}},
		{"network policies", func() error {
			r, err := a.Client.NetworkingV1().NetworkPolicies("").List(ctx, all)
			if err == nil {
				l.policies = r.Items
			}
			return err
		}},
		{"cluster role bindings", func() error {
			r, err := a.Client.RbacV1().ClusterRoleBindings().List(ctx, all)
			if err == nil {
				l.bindings = r.Items
			}
			return err
		}},
		{"cluster roles", func() error {
			r, err := a.Client.RbacV1().ClusterRoles().List(ctx, all)
			if err == nil {
				l.roles = r.Items
			}
			return err
		}},
		{"certificates in Secrets", func() error {
			r, err := a.Client.CoreV1().Secrets("").List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeTLS)})
			if err == nil {
				l.secrets = r.Items
			}
			return err
		}},
		{"daemon sets", func() error {
			r, err := a.Client.AppsV1().DaemonSets("").List(ctx, all)
			if err == nil {
				for _, d := range r.Items {
					l.daemons = append(l.daemons, daemon{d.Namespace, d.Name, int(d.Status.NumberReady), int(d.Status.DesiredNumberScheduled)})
				}
			}
			return err
		}},
		{"scan jobs", func() error {
			r, err := a.Client.BatchV1().CronJobs("").List(ctx, all)
			if err == nil {
				l.cronJobs = r.Items
			}
			return err
		}},
		{"Gatekeeper's constraints", func() (err error) { l.gatekeeper, l.constraints, err = constraints(ctx, a); return err }},
	}
	gaps := make([]*Gap, len(questions))
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() {
			if err := q.ask(); err != nil {
				gaps[i] = &Gap{Subject: c.Name + ": " + q.what, Reason: err.Error()}
			}
		})
	}
	wg.Wait()
	var out []Gap
	for _, g := range gaps {
		if g != nil {
			out = append(out, *g)
		}
	}
	c.Read = len(out) == 0
	c.fill(l)
	return out
}

// constraintGroup is where Gatekeeper makes a resource of each template.
const constraintGroup = "constraints.gatekeeper.sh"

// constraints lists all constraints of all kinds. Without Gatekeeper there are none.
func constraints(ctx context.Context, a API) (installed bool, out []unstructured.Unstructured, err error) {
	kinds, err := a.Client.Discovery().ServerResourcesForGroupVersion(constraintGroup + "/v1beta1")
	if apierrors.IsNotFound(err) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	for _, k := range kinds.APIResources {
		if strings.Contains(k.Name, "/") { // status and the like
			continue
		}
		r, err := a.Dynamic.Resource(schema.GroupVersionResource{Group: constraintGroup, Version: "v1beta1", Resource: k.Name}).List(ctx, metav1.ListOptions{})
		if err != nil {
			return true, nil, fmt.Errorf("%s: %w", k.Name, err)
		}
		out = append(out, r.Items...)
	}
	return true, out, nil
}

func (c *Cluster) fill(l lists) {
	c.Images = images(l.pods)
	c.Namespaces = namespaces(l)
	c.Admins = admins(l.bindings, l.roles)
	c.Gatekeeper = gatekeeper(l.gatekeeper, l.constraints)
	for _, s := range l.secrets {
		c.Certificates = append(c.Certificates, certificates(fmt.Sprintf("Secret %s/%s", s.Namespace, s.Name), s.Data[corev1.TLSCertKey])...)
	}
	for _, d := range l.daemons {
		if d.namespace == "falco" {
			c.Falco = Workload{Installed: true, Ready: c.Falco.Ready + d.ready, Wanted: c.Falco.Wanted + d.wanted}
		}
		if name, ok := enforcers()[d.name]; ok && d.ready > 0 {
			c.Enforcer = name
		}
	}
	for _, j := range l.cronJobs {
		if strings.HasPrefix(j.Namespace, "trivy") {
			s := Scan{Name: j.Namespace + "/" + j.Name}
			if j.Status.LastSuccessfulTime != nil {
				s.Last = j.Status.LastSuccessfulTime.UTC()
			}
			c.Scans = append(c.Scans, s)
		}
	}
	sort.Slice(c.Scans, func(i, j int) bool { return c.Scans[i].Name < c.Scans[j].Name })
}

// enforcers are DaemonSets that enforce network policies.
func enforcers() map[string]string {
	return map[string]string{
		"kube-network-policies": "kube-network-policies", "network-policies": "kube-network-policies",
		"calico-node": "Calico", "cilium": "Cilium", "kube-router": "kube-router", "antrea-agent": "Antrea", "weave-net": "Weave Net",
	}
}

// images are what runs, with the digest that the runtime says it runs.
func images(pods []corev1.Pod) []Image {
	type id struct{ ref, digest string }
	count := map[id]int{}
	for _, p := range pods {
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		for _, s := range slices.Concat(p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses) {
			digest := ""
			if i := strings.LastIndex(s.ImageID, "sha256:"); i >= 0 {
				digest = s.ImageID[i:]
			}
			count[id{s.Image, digest}]++
		}
	}
	out := make([]Image, 0, len(count))
	for k, n := range count {
		out = append(out, Image{Ref: k.ref, Digest: k.digest, Pods: n})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Ref != out[j].Ref {
			return out[i].Ref < out[j].Ref
		}
		return out[i].Digest < out[j].Digest
	})
	return out
}

// namespaces says of each namespace which pods no network policy selects.
func namespaces(l lists) []Namespace {
	out := make([]Namespace, 0, len(l.namespaces))
	for _, ns := range l.namespaces {
		n := Namespace{Name: ns.Name, PodSecurity: ns.Labels["pod-security.kubernetes.io/enforce"]}
		var own []networkingv1.NetworkPolicy
		for _, p := range l.policies {
			if p.Namespace == ns.Name {
				own = append(own, p)
			}
		}
		n.Policies = len(own)
		for _, p := range l.pods {
			if p.Namespace != ns.Name || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			n.Pods++
			if p.Spec.HostNetwork {
				n.Host++
				continue
			}
			if !selected(own, p, networkingv1.PolicyTypeIngress) {
				n.OpenIn = append(n.OpenIn, p.Name)
			}
			if !selected(own, p, networkingv1.PolicyTypeEgress) {
				n.OpenOut = append(n.OpenOut, p.Name)
			}
		}
		sort.Strings(n.OpenIn)
		sort.Strings(n.OpenOut)
		out = append(out, n)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// selected says whether a policy of that direction selects the pod: then only what policies allow passes.
func selected(policies []networkingv1.NetworkPolicy, p corev1.Pod, direction networkingv1.PolicyType) bool {
	for _, pol := range policies {
		s, err := metav1.LabelSelectorAsSelector(&pol.Spec.PodSelector)
		if err != nil || !s.Matches(labels.Set(p.Labels)) {
			continue
		}
		// without types: ingress always, egress where there are rules for it
		if slices.Contains(pol.Spec.PolicyTypes, direction) || len(pol.Spec.PolicyTypes) == 0 &&
			(direction == networkingv1.PolicyTypeIngress || len(pol.Spec.Egress) > 0) {
			return true
		}
	}
	return false
}

// admins are the subjects that a binding gives all rights on everything.
func admins(bindings []rbacv1.ClusterRoleBinding, roles []rbacv1.ClusterRole) []Admin {
	all := map[string]bool{"cluster-admin": true}
	for _, r := range roles {
		if slices.ContainsFunc(r.Rules, everything) {
			all[r.Name] = true
		}
	}
	why := map[string]string{
		"Group system:masters":         "Kubernetes itself: certificates of this group pass by every check; none is written to disk",
		"Group kubeadm:cluster-admins": "kubeadm: operators' certificates, issued by name and for a short time",
	}
	var out []Admin
	for _, b := range bindings {
		if b.RoleRef.Kind != "ClusterRole" || !all[b.RoleRef.Name] {
			continue
		}
		for _, s := range b.Subjects {
			out = append(out, Admin{
				Kind: s.Kind, Name: s.Name, Namespace: s.Namespace, Binding: b.Name, Role: b.RoleRef.Name, Why: why[s.Kind+" "+s.Name],
			})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		return a.Kind+" "+a.Namespace+" "+a.Name+" "+a.Binding < b.Kind+" "+b.Namespace+" "+b.Name+" "+b.Binding
	})
	return out
}

func everything(r rbacv1.PolicyRule) bool {
	return slices.Contains(r.Verbs, "*") && slices.Contains(r.APIGroups, "*") && slices.Contains(r.Resources, "*")
}

func gatekeeper(installed bool, list []unstructured.Unstructured) Gatekeeper {
	g := Gatekeeper{Installed: installed, Constraints: []Constraint{}}
	for _, u := range list {
		c := Constraint{Kind: u.GetKind(), Name: u.GetName(), Action: "deny"}
		if action, ok, _ := unstructured.NestedString(u.Object, "spec", "enforcementAction"); ok {
			c.Action = action
		}
		if n, ok, _ := unstructured.NestedInt64(u.Object, "status", "totalViolations"); ok {
			c.Violations = int(n)
		}
		if at, ok, _ := unstructured.NestedString(u.Object, "status", "auditTimestamp"); ok {
			c.Audited, _ = time.Parse(time.RFC3339, at) // zero: never audited
		}
		g.Constraints = append(g.Constraints, c)
	}
	sort.Slice(g.Constraints, func(i, j int) bool {
		a, b := g.Constraints[i], g.Constraints[j]
		return a.Kind+" "+a.Name < b.Kind+" "+b.Name
	})
	return g
}

// certificates reads a PEM text.
func certificates(where string, text []byte) []Certificate {
	var out []Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, Certificate{Where: where, Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotAfter: c.NotAfter.UTC()})
		}
	}
	return out
}
