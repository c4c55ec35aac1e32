package kubeadm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// strictly decodes a file as the API server does.
func strictly(t *testing.T, file string, add func(*runtime.Scheme) error) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, add(scheme))
	obj, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), []byte(file))
	require.NoError(t, err)
	return obj
}

// TestFiles looks at what we mean; test/kubeadm has the real programs read them.
func TestFiles(t *testing.T) {
	t.Parallel()
	t.Run("encryption", func(t *testing.T) {
		const key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
		file := EncryptionConfiguration(key)
		golden(t, "encryption.yaml", file)
		var c struct {
			APIVersion, Kind string
			Resources        []struct {
				Resources []string
				Providers []map[string]struct {
					Keys []struct{ Name, Secret string }
				}
			}
		}
		require.NoError(t, yaml.UnmarshalStrict([]byte(file), &c))
		require.Len(t, c.Resources, 1)
		require.Equal(t, []string{"secrets"}, c.Resources[0].Resources)
		require.Equal(t, key, c.Resources[0].Providers[0]["secretbox"].Keys[0].Secret, "the first provider writes")
		require.Contains(t, c.Resources[0].Providers[1], "identity", "what was written in plain stays readable")
	})
	t.Run("authentication", func(t *testing.T) {
		file := Authentication()
		golden(t, "authentication.yaml", file)
		var c struct {
			APIVersion, Kind string
			Anonymous        struct {
				Enabled    bool
				Conditions []struct{ Path string }
			}
		}
		require.NoError(t, yaml.UnmarshalStrict([]byte(file), &c))
		require.True(t, c.Anonymous.Enabled)
		var paths []string
		for _, cond := range c.Anonymous.Conditions {
			paths = append(paths, cond.Path)
		}
		require.Equal(t, []string{"/livez", "/readyz", "/healthz", "/api/v1/namespaces/kube-public/configmaps/cluster-info"}, paths)
	})
	t.Run("kube-vip", func(t *testing.T) {
		file := KubeVIP(spec(inventory.EndpointVIP), "eth0")
		golden(t, "kube-vip.yaml", file)
		pod := strictly(t, file, corev1.AddToScheme).(*corev1.Pod)
		require.True(t, pod.Spec.HostNetwork)
		c := pod.Spec.Containers[0]
		require.Equal(t, KubeVIPImage, c.Image)
		env := map[string]string{}
		for _, e := range c.Env {
			env[e.Name] = e.Value
		}
		require.Equal(t, "10.77.0.10", env["address"])
		require.Equal(t, "eth0", env["vip_interface"])
		require.Equal(t, "/etc/kubernetes/admin.conf", pod.Spec.Volumes[0].HostPath.Path)
		require.True(t, c.VolumeMounts[0].ReadOnly)
	})
	t.Run("a broken file is refused", func(t *testing.T) {
		scheme := runtime.NewScheme()
		require.NoError(t, auditv1.AddToScheme(scheme))
		_, err := runtime.Decode(serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), []byte(strings.Replace(AuditPolicy(), "omitStages", "omitStage", 1)))
		require.ErrorContains(t, err, "omitStage")
	})
}

// request is what an audit rule looks at.
type request struct {
	user        string
	groups      []string
	verb        string
	group       string
	resource    string // with subresource
	nonResource string
}

// evaluator is the API server's own.
func evaluator(t *testing.T) func(request) auditinternal.Level {
	t.Helper()
	p, err := policy.LoadPolicyFromBytes([]byte(AuditPolicy()))
	require.NoError(t, err)
	rules := policy.NewPolicyRuleEvaluator(p)
	return func(r request) auditinternal.Level {
		resource, sub, _ := strings.Cut(r.resource, "/")
		return rules.EvaluatePolicyRule(authorizer.AttributesRecord{
			User: &user.DefaultInfo{Name: r.user, Groups: r.groups}, Verb: r.verb, Namespace: "default", Name: "x",
			APIGroup: r.group, APIVersion: "v1", Resource: resource, Subresource: sub, ResourceRequest: r.nonResource == "", Path: r.nonResource,
		}).Level
	}
}

func TestAuditPolicy(t *testing.T) {
	t.Parallel()
	p := strictly(t, AuditPolicy(), auditv1.AddToScheme).(*auditv1.Policy)
	require.Equal(t, []auditv1.Stage{auditv1.StageRequestReceived}, p.OmitStages)
	levelOf := evaluator(t)
	const none, metadata, body, answer = auditinternal.LevelNone, auditinternal.LevelMetadata, auditinternal.LevelRequest, auditinternal.LevelRequestResponse
	const rbac, gatekeeper, auth = "rbac.authorization.k8s.io", "system:serviceaccount:gatekeeper-system:gatekeeper", "authentication.k8s.io"
	node := []string{"system:nodes", "system:authenticated"}
	controller := []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}
	for name, c := range map[string]struct {
		r    request
		want auditinternal.Level
	}{
		"kube-proxy watches services":             {request{user: "system:kube-proxy", verb: "watch", resource: "services"}, none},
		"a kubelet reads its pods":                {request{user: "system:node:a", groups: node, verb: "list", resource: "pods"}, none},
		"a kubelet updates a pod's status":        {request{user: "system:node:a", groups: node, verb: "patch", resource: "pods/status"}, none},
		"a kubelet updates its node's status":     {request{user: "system:node:a", groups: node, verb: "patch", resource: "nodes/status"}, none},
		"a kubelet labels its node":               {request{user: "system:node:a", groups: node, verb: "patch", resource: "nodes"}, metadata},
		"a lease":                                 {request{user: "anybody", verb: "update", group: "coordination.k8s.io", resource: "leases"}, none},
		"an event":                                {request{user: "anybody", verb: "create", resource: "events"}, none},
		"an event of the newer kind":              {request{user: "anybody", verb: "create", group: "events.k8s.io", resource: "events"}, none},
		"health":                                  {request{user: "system:anonymous", verb: "get", nonResource: "/livez/ping"}, none},
		"another path":                            {request{user: "eve", verb: "get", nonResource: "/debug/pprof"}, metadata},
		"a person reads a secret":                 {request{user: "eve", verb: "get", resource: "secrets"}, metadata},
		"a person writes a secret":                {request{user: "eve", verb: "create", resource: "secrets"}, metadata},
		"a kubelet reads a secret":                {request{user: "system:node:a", groups: node, verb: "get", resource: "secrets"}, metadata},
		"the controller manager writes a secret":  {request{user: "system:kube-controller-manager", verb: "update", resource: "secrets"}, metadata},
		"the controller manager reads secrets":    {request{user: "system:kube-controller-manager", verb: "list", resource: "secrets"}, metadata},
		"a controller writes a secret":            {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", resource: "secrets"}, metadata},
		"a token is made":                         {request{user: "eve", verb: "create", resource: "serviceaccounts/token"}, metadata},
		"a token is reviewed":                     {request{user: "eve", verb: "create", group: auth, resource: "tokenreviews"}, metadata},
		"who one is":                              {request{user: "eve", verb: "create", group: auth, resource: "selfsubjectreviews"}, metadata},
		"a config map is written":                 {request{user: "eve", verb: "update", resource: "configmaps"}, metadata},
		"a person enters a pod":                   {request{user: "eve", verb: "create", resource: "pods/exec"}, body},
		"a person enters a pod the other way":     {request{user: "eve", verb: "get", resource: "pods/exec"}, body},
		"a person attaches":                       {request{user: "eve", verb: "create", resource: "pods/attach"}, body},
		"a person forwards a port":                {request{user: "eve", verb: "create", resource: "pods/portforward"}, body},
		"a person debugs":                         {request{user: "eve", verb: "patch", resource: "pods/ephemeralcontainers"}, body},
		"a node enters a pod":                     {request{user: "system:node:a", groups: node, verb: "create", resource: "pods/exec"}, body},
		"a node enters a pod the other way":       {request{user: "system:node:a", groups: node, verb: "get", resource: "pods/exec"}, body},
		"the control plane forwards a port":       {request{user: "system:apiserver", verb: "get", resource: "pods/portforward"}, body},
		"a node speaks to a kubelet":              {request{user: "system:node:a", groups: node, verb: "get", resource: "nodes/proxy"}, metadata},
		"an event is made":                        {request{user: "eve", verb: "create", resource: "events"}, none},
		"an event is deleted":                     {request{user: "eve", verb: "delete", resource: "events"}, metadata},
		"all events are deleted":                  {request{user: "system:node:a", groups: node, verb: "deletecollection", group: "events.k8s.io", resource: "events"}, metadata},
		"a lease is renewed":                      {request{user: "system:node:a", groups: node, verb: "update", group: "coordination.k8s.io", resource: "leases"}, none},
		"a lease is deleted":                      {request{user: "eve", verb: "delete", group: "coordination.k8s.io", resource: "leases"}, metadata},
		"a person speaks through a service":       {request{user: "eve", verb: "create", resource: "services/proxy"}, metadata},
		"a person speaks to a kubelet":            {request{user: "eve", verb: "get", resource: "nodes/proxy"}, metadata},
		"a person gives rights":                   {request{user: "eve", verb: "create", group: rbac, resource: "clusterrolebindings"}, answer},
		"a controller gives rights":               {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", group: rbac, resource: "clusterroles"}, answer},
		"a person takes rights":                   {request{user: "eve", verb: "delete", group: rbac, resource: "rolebindings"}, answer},
		"a person reads rights":                   {request{user: "eve", verb: "list", group: rbac, resource: "clusterroles"}, metadata},
		"a certificate is asked for":              {request{user: "eve", verb: "create", group: "certificates.k8s.io", resource: "certificatesigningrequests"}, answer},
		"a certificate is approved":               {request{user: "eve", verb: "update", group: "certificates.k8s.io", resource: "certificatesigningrequests/approval"}, answer},
		"a webhook is deleted":                    {request{user: "eve", verb: "delete", group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations"}, body},
		"a network policy is changed":             {request{user: "eve", verb: "patch", group: "networking.k8s.io", resource: "networkpolicies"}, body},
		"a namespace is labelled":                 {request{user: "eve", verb: "patch", resource: "namespaces"}, body},
		"a rule is changed":                       {request{user: "eve", verb: "patch", group: "constraints.gatekeeper.sh", resource: "catamaranprotected"}, body},
		"Gatekeeper reports":                      {request{user: gatekeeper, verb: "update", group: "constraints.gatekeeper.sh", resource: "catamaranprotected/status"}, none},
		"Gatekeeper reports by pod":               {request{user: gatekeeper, verb: "create", group: "status.gatekeeper.sh", resource: "constraintpodstatuses"}, none},
		"a person reports as Gatekeeper":          {request{user: "eve", verb: "update", group: "constraints.gatekeeper.sh", resource: "catamaranprotected/status"}, body},
		"Gatekeeper changes a rule":               {request{user: gatekeeper, verb: "update", group: "constraints.gatekeeper.sh", resource: "catamaranprotected"}, body},
		"a person changes a deployment":           {request{user: "eve", verb: "patch", group: "apps", resource: "deployments"}, metadata},
		"a person deletes a namespace":            {request{user: "eve", verb: "delete", resource: "namespaces"}, body},
		"a person reads pods":                     {request{user: "eve", verb: "list", resource: "pods"}, metadata},
		"a controller updates a status":           {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", group: "apps", resource: "deployments/status"}, none},
		"a controller's token changes a workload": {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "patch", group: "apps", resource: "daemonsets"}, metadata},
		"a controller deletes a pod":              {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "delete", resource: "pods"}, metadata},
		"a service account elsewhere is a person": {request{user: "system:serviceaccount:default:x", verb: "update", group: "apps", resource: "deployments/status"}, metadata},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, levelOf(c.r)) })
	}
	users := []request{
		{user: "eve"}, {user: "system:node:a", groups: node}, {user: "system:serviceaccount:kube-system:x", groups: controller}, {user: gatekeeper},
		{user: "system:kube-controller-manager"}, {user: "system:kube-scheduler"}, {user: "system:apiserver"}, {user: "system:anonymous"}, {user: "root", groups: []string{"system:masters"}},
	}
	verbs := []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	t.Run("no rule logs the body of a secret or a token", func(t *testing.T) {
		for _, u := range users {
			for _, s := range []request{
				{resource: "secrets"}, {resource: "configmaps"}, {resource: "serviceaccounts/token"}, {group: auth, resource: "tokenreviews"}, {group: auth, resource: "tokenrequests"},
			} {
				for _, verb := range verbs {
					s.user, s.groups, s.verb = u.user, u.groups, verb
					level := levelOf(s)
					require.True(t, level == none || level == metadata, "%s: %+v", level, s)
					if s.resource == "secrets" {
						require.Equal(t, metadata, level, "%+v", s)
					}
				}
			}
		}
	})
	t.Run("no change of rights is left out", func(t *testing.T) {
		for _, u := range users {
			for _, resource := range []string{"roles", "rolebindings", "clusterroles", "clusterrolebindings"} {
				for _, verb := range verbs[3:] {
					require.Equal(t, answer, levelOf(request{user: u.user, groups: u.groups, verb: verb, group: rbac, resource: resource}))
				}
			}
		}
	})
}

func TestAuditPolicyIsYAMLThatPeopleRead(t *testing.T) {
	t.Parallel()
	var p auditv1.Policy
	require.NoError(t, yaml.UnmarshalStrict([]byte(AuditPolicy()), &p))
	require.Equal(t, auditv1.LevelMetadata, p.Rules[len(p.Rules)-1].Level, "what no rule names is logged all the same")
}
