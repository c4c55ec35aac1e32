package kubeadm

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
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

// levelOf applies the policy as documented: the first rule that matches says the level.
func levelOf(p *auditv1.Policy, r request) auditv1.Level {
	for _, rule := range p.Rules {
		if matches(rule, r) {
			return rule.Level
		}
	}
	return auditv1.LevelNone
}

func matches(rule auditv1.PolicyRule, r request) bool {
	if len(rule.Users) > 0 && !in(rule.Users, r.user) {
		return false
	}
	if len(rule.UserGroups) > 0 {
		some := false
		for _, g := range r.groups {
			some = some || in(rule.UserGroups, g)
		}
		if !some {
			return false
		}
	}
	if len(rule.Verbs) > 0 && !in(rule.Verbs, r.verb) {
		return false
	}
	if r.nonResource != "" {
		if len(rule.Resources) > 0 {
			return false
		}
		for _, path := range rule.NonResourceURLs {
			if prefix, wild := strings.CutSuffix(path, "*"); path == r.nonResource || wild && strings.HasPrefix(r.nonResource, prefix) {
				return true
			}
		}
		return len(rule.NonResourceURLs) == 0
	}
	if len(rule.NonResourceURLs) > 0 {
		return false
	}
	for _, gr := range rule.Resources {
		if gr.Group == r.group && (len(gr.Resources) == 0 || in(gr.Resources, r.resource)) {
			return true
		}
	}
	return len(rule.Resources) == 0
}

func in(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func TestAuditPolicy(t *testing.T) {
	t.Parallel()
	p := strictly(t, AuditPolicy(), auditv1.AddToScheme).(*auditv1.Policy)
	require.Equal(t, []auditv1.Stage{auditv1.StageRequestReceived}, p.OmitStages)
	node := []string{"system:nodes", "system:authenticated"}
	controller := []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"}
	for name, c := range map[string]struct {
		r    request
		want auditv1.Level
	}{
		"kube-proxy watches services":             {request{user: "system:kube-proxy", verb: "watch", resource: "services"}, auditv1.LevelNone},
		"a kubelet reads its pods":                {request{user: "system:node:a", groups: node, verb: "list", resource: "pods"}, auditv1.LevelNone},
		"a kubelet updates a status":              {request{user: "system:node:a", groups: node, verb: "patch", resource: "pods/status"}, auditv1.LevelNone},
		"a lease":                                 {request{user: "anybody", verb: "update", group: "coordination.k8s.io", resource: "leases"}, auditv1.LevelNone},
		"an event":                                {request{user: "anybody", verb: "create", resource: "events"}, auditv1.LevelNone},
		"health":                                  {request{user: "system:anonymous", verb: "get", nonResource: "/livez/ping"}, auditv1.LevelNone},
		"another path":                            {request{user: "eve", verb: "get", nonResource: "/debug/pprof"}, auditv1.LevelMetadata},
		"a person reads a secret":                 {request{user: "eve", verb: "get", resource: "secrets"}, auditv1.LevelMetadata},
		"a person writes a secret":                {request{user: "eve", verb: "create", resource: "secrets"}, auditv1.LevelMetadata},
		"a kubelet reads a secret":                {request{user: "system:node:a", groups: node, verb: "get", resource: "secrets"}, auditv1.LevelMetadata},
		"the controller manager writes a secret":  {request{user: "system:kube-controller-manager", verb: "update", resource: "secrets"}, auditv1.LevelMetadata},
		"a controller writes a secret":            {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", resource: "secrets"}, auditv1.LevelMetadata},
		"a token is made":                         {request{user: "eve", verb: "create", resource: "serviceaccounts/token"}, auditv1.LevelMetadata},
		"a token is reviewed":                     {request{user: "eve", verb: "create", group: "authentication.k8s.io", resource: "tokenreviews"}, auditv1.LevelMetadata},
		"a person enters a pod":                   {request{user: "eve", verb: "create", resource: "pods/exec"}, auditv1.LevelMetadata},
		"a person gives rights":                   {request{user: "eve", verb: "create", group: "rbac.authorization.k8s.io", resource: "clusterrolebindings"}, auditv1.LevelRequestResponse},
		"a controller gives rights":               {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", group: "rbac.authorization.k8s.io", resource: "clusterroles"}, auditv1.LevelRequestResponse},
		"a person changes a deployment":           {request{user: "eve", verb: "patch", group: "apps", resource: "deployments"}, auditv1.LevelRequest},
		"a person deletes a namespace":            {request{user: "eve", verb: "delete", resource: "namespaces"}, auditv1.LevelRequest},
		"a person reads pods":                     {request{user: "eve", verb: "list", resource: "pods"}, auditv1.LevelMetadata},
		"a controller updates a status":           {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "update", group: "apps", resource: "deployments/status"}, auditv1.LevelNone},
		"a controller deletes a pod":              {request{user: "system:serviceaccount:kube-system:x", groups: controller, verb: "delete", resource: "pods"}, auditv1.LevelRequest},
		"a service account elsewhere is a person": {request{user: "system:serviceaccount:default:x", verb: "update", group: "apps", resource: "deployments"}, auditv1.LevelRequest},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, levelOf(p, c.r)) })
	}
	t.Run("no rule logs the body of a secret or a token", func(t *testing.T) {
		users := []request{{user: "eve"}, {user: "system:node:a", groups: node}, {user: "system:serviceaccount:kube-system:x", groups: controller}, {user: "system:kube-controller-manager"}, {user: "system:apiserver"}, {user: "system:anonymous"}}
		secret := []request{
			{resource: "secrets"}, {resource: "configmaps"}, {resource: "serviceaccounts/token"},
			{group: "authentication.k8s.io", resource: "tokenreviews"}, {group: "authentication.k8s.io", resource: "tokenrequests"},
		}
		for _, u := range users {
			for _, s := range secret {
				for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
					s.user, s.groups, s.verb = u.user, u.groups, verb
					level := levelOf(p, s)
					require.True(t, level == auditv1.LevelNone || level == auditv1.LevelMetadata, "%s: %+v", level, s)
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
