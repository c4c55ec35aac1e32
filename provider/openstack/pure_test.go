package openstack

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

func refusal(code int, body string) error {
	return gophercloud.ErrUnexpectedResponseCode{URL: "https://cloud.test:8774/v2.1/servers?secret=1", Method: "POST", Actual: code, Body: []byte(body)}
}

func TestErrorsAreSaidInTheOperatorsTerms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err       error
		permanent bool
		says      string
	}{
		{refusal(401, `{"error": {"message": "The request you have made requires authentication."}}`), true, "refuses the credentials"},
		{refusal(403, `{"forbidden": {"message": "Policy doesn't allow it", "code": 403}}`), true, "may not do this (POST cloud.test:8774/v2.1/servers): Policy doesn't allow it"},
		{refusal(403, `{"forbidden": {"message": "Quota exceeded for cores: Requested 4, but already used 18 of 20 cores"}}`), true, "Requested 4, but already used 18 of 20 cores"},
		{refusal(400, `{"badRequest": {"message": "Invalid input for field/attribute user_data. Value: secret=1. 'secret=1' is too long"}}`), true, "Invalid input for field/attribute user_data."},
		{refusal(409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port']."}}`), true, "quota is not enough"},
		{refusal(409, `{"NeutronError": {"type": "IpAddressAlreadyAllocated", "message": "IP address 10.0.0.5 already allocated"}}`), true, "10.0.0.5"},
		{refusal(409, `{"NeutronError": {"type": "SubnetInUse", "message": "in use"}}`), false, "in use"},
		{refusal(403, `{"faultcode": "Client", "faultstring": "Quota has been met for resources: Load Balancer", "debuginfo": null}`), true, "quota is not enough"},
		{refusal(501, `{"faultcode": "Client", "faultstring": "Provider 'x' does not support a requested option"}`), true, "the cloud refuses it"},
		{refusal(503, `<html>busy</html>`), false, "the cloud failed"},
		{refusal(500, ``), false, "it gave no reason"},
		{refusal(429, `{"overLimit": {"message": "slow down"}}`), false, "too many requests"},
		{errLost, false, "the answer was lost"},
	} {
		err := explain(t.Context(), "make the server wc-1", c.err)
		assert.ErrorContains(t, err, c.says)
		assert.ErrorContains(t, err, "make the server wc-1")
		assert.NotContains(t, err.Error(), "secret=1", "nothing of a query is shown")
		if c.permanent {
			assert.ErrorIs(t, err, provider.ErrPermanent, c.says)
		} else {
			assert.NotErrorIs(t, err, provider.ErrPermanent, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := explain(ctx, "list servers", refusal(401, ""))
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, provider.ErrPermanent, "being cut off is nothing permanent")
}

func TestNearest(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "the nearest are m1.small, m1.tiny, m1.large", nearest("m1.smal", []string{"m1.large", "gpu.huge", "m1.tiny", "m1.small", "m1.small"}))
	assert.Equal(t, "there is none at all", nearest("x", nil))
}

func TestNamesNeverMeet(t *testing.T) {
	t.Parallel()
	a, b := names{"umea", inventory.Workload}, names{"umea", inventory.Service}
	assert.Equal(t, "catamaran.umea.workload.wc-1", a.node("wc-1"))
	assert.NotEqual(t, a.node("vip"), a.part("vip"), "a node may be called like a part")
	_, ok := a.nodeOf(b.node("wc-1"))
	assert.False(t, ok)
	_, ok = a.nodeOf(a.part("vip"))
	assert.False(t, ok)
	node, ok := a.nodeOf(a.node("wc-1.example"))
	assert.True(t, ok)
	assert.Equal(t, "wc-1.example", node)
	assert.False(t, a.owns(b.metadata(&inventory.Node{Name: "wc-1"})))
	assert.True(t, a.owns(a.metadata(&inventory.Node{Name: "wc-1"})))
}

func TestUserData(t *testing.T) {
	t.Parallel()
	key, err := newHostKey("wc-1")
	require.NoError(t, err)
	data, err := userData("wc-1", "ops", []string{"ssh-ed25519 AAAA"}, key)
	require.NoError(t, err)
	assert.Equal(t, "#cloud-config\n", string(data[:14]))
	var c map[string]any
	require.NoError(t, yaml.Unmarshal(data, &c))
	assert.Equal(t, "wc-1", c["hostname"])
	keys, _ := c["ssh_keys"].(map[string]any)
	private, _ := keys["ed25519_private"].(string)
	signer, err := ssh.ParsePrivateKey([]byte(private))
	require.NoError(t, err)
	pinned, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.public))
	require.NoError(t, err)
	assert.Equal(t, signer.PublicKey().Marshal(), pinned.Marshal(), "the pinned key is that of the machine")
	assert.LessOrEqual(t, len(key.public), 255, "nova's metadata hold no more")
	assert.Equal(t, []any{map[string]any{
		"name": "ops", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/bash", "lock_passwd": true, "ssh_authorized_keys": []any{"ssh-ed25519 AAAA"},
	}}, c["users"])
	root, err := userData("wc-1", "root", nil, key)
	require.NoError(t, err)
	assert.Contains(t, string(root), "disable_root: false")
}

func TestPublicKeyOfAKeyFile(t *testing.T) {
	t.Parallel()
	key, err := newHostKey("me")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "id")
	require.NoError(t, os.WriteFile(path, []byte(key.private), 0o600))
	got, err := publicKey(path, nil, "")
	require.NoError(t, err)
	assert.Equal(t, key.public, got, "out of the private key")
	other, err := newHostKey("other")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+".pub", []byte(other.public+" me@desk\n"), 0o600))
	got, err = publicKey(path, nil, "")
	require.NoError(t, err)
	assert.Equal(t, other.public, got, "the file beside it goes first")
}

func TestCredentialsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	env := map[string]string{"OS_AUTH_URL": "https://cloud.test:5000/v3", "OS_USERNAME": "demo", "OS_PASSWORD": `a"b: {`, "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "p"}
	text, err := fromEnvironment(func(k string) string { return env[k] })
	require.NoError(t, err)
	assert.Contains(t, text, `"user_domain_name":"Default"`)
	assert.Contains(t, text, `"password":"a\"b: {"`)
	_, err = fromEnvironment(func(string) string { return "" })
	assert.ErrorContains(t, err, "OS_AUTH_URL")
}

func site(t *testing.T) *inventory.Inventory {
	on := true
	inv := &inventory.Inventory{Metadata: inventory.Metadata{Name: "umea"}}
	inv.Platform.Enabled = &on
	inv.Platform.Ingest.ForwardPort, inv.Platform.Ingest.MetricsPort = 30224, 30443
	for _, p := range []**inventory.Cluster{&inv.Clusters.Service, &inv.Clusters.Workload} {
		*p = &inventory.Cluster{
			Endpoint: inventory.Endpoint{Port: 6443}, Network: inventory.Network{CNI: inventory.CNIFlannel},
			Provider: inventory.Provider{OpenStack: &inventory.OpenStack{SSHFrom: []string{"192.0.2.7/24"}, APIFrom: []string{"198.51.100.0/24"}}},
		}
	}
	require.Len(t, inv.ClusterNames(), 2)
	return inv
}

func TestRulesAreTheLeast(t *testing.T) {
	t.Parallel()
	subnet := netip.MustParsePrefix("10.77.0.0/24")
	words := func(rs []rule) []string {
		var out []string
		for _, r := range rs {
			out = append(out, r.String())
		}
		return out
	}
	service := wanted(site(t), inventory.Service, subnet, true)
	assert.Equal(t, []string{
		"tcp 22 from 192.0.2.0/24", "udp 8472 from nodes", "tcp 10250 from nodes", "tcp 30000-32767 from nodes", "udp 30000-32767 from nodes", "icmp from nodes",
		"tcp 22 from nodes",
		"tcp 30224 from workload:nodes", "tcp 30443 from workload:nodes",
	}, words(service[partNodes]))
	assert.Equal(t, []string{"tcp 6443 from 198.51.100.0/24", "tcp 6443 from nodes", "tcp 2379-2380 from control-planes"}, words(service[partPlanes]))
	workload := wanted(site(t), inventory.Workload, subnet, true)
	assert.NotContains(t, words(workload[partNodes]), "tcp 30224 from workload:nodes", "nothing leads from the service cluster into the workload cluster")
	behind := site(t)
	behind.Clusters.Workload.Endpoint.Port = 443
	behind.Clusters.Workload.Provider.OpenStack.LoadBalancer = &inventory.OpenStackLoadBalancer{}
	assert.Equal(t, []string{
		"tcp 6443 from 198.51.100.0/24", "tcp 6443 from nodes", "tcp 2379-2380 from control-planes", "tcp 6443 from 10.77.0.0/24",
	}, words(wanted(behind, inventory.Workload, subnet, false)[partPlanes]), "API servers listen on 6443, whatever the load balancer's port")
	bare := site(t)
	bare.Clusters.Workload.Provider.OpenStack = &inventory.OpenStack{}
	for _, rs := range wanted(bare, inventory.Workload, subnet, true) {
		for _, r := range rs {
			assert.Empty(t, r.cidr, "%s: nobody was listed", r)
		}
	}
}

func TestNodePortsAreOpenForLoadBalancersOfServices(t *testing.T) {
	t.Parallel()
	const ccm, open = "openstack-cloud-controller-manager", "tcp 30000-32767 from 10.77.0.0/24"
	on, off := true, false
	for what, c := range map[string]struct {
		component inventory.Component
		want      bool
	}{
		"nothing said":     {inventory.Component{}, false},
		"on":               {inventory.Component{Values: map[string]any{"loadBalancers": map[string]any{"enabled": on}}}, true},
		"amphora":          {inventory.Component{Enabled: &on, Values: map[string]any{"loadBalancers": map[string]any{"enabled": on, "provider": "amphora"}}}, true},
		"ovn":              {inventory.Component{Values: map[string]any{"loadBalancers": map[string]any{"enabled": on, "provider": "ovn"}}}, false},
		"no controller":    {inventory.Component{Enabled: &off, Values: map[string]any{"loadBalancers": map[string]any{"enabled": on}}}, false},
		"no load balancer": {inventory.Component{Values: map[string]any{"loadBalancers": map[string]any{"enabled": off}}}, false},
	} {
		inv := site(t)
		inv.Components = map[string]inventory.Component{ccm: c.component}
		for _, cni := range []inventory.CNI{inventory.CNIFlannel, inventory.CNINone} {
			inv.Clusters.Workload.Network.CNI = cni
			all := fmt.Sprint(wanted(inv, inventory.Workload, netip.MustParsePrefix("10.77.0.0/24"), true)[partNodes])
			assert.Equal(t, c.want, strings.Contains(all, open), what)
			assert.Equal(t, c.want, strings.Contains(all, strings.Replace(open, "tcp", "udp", 1)), what)
		}
	}
}

func TestRulesThatDiffer(t *testing.T) {
	t.Parallel()
	want := []rule{{family: "IPv4", protocol: "tcp", from: 22, to: 22, cidr: "192.0.2.0/24"}, {family: "IPv4", protocol: "icmp", group: "nodes"}}
	have := []rules.SecGroupRule{
		{ID: "out", Direction: "egress", EtherType: "IPv4"},
		{ID: "icmp", Direction: "ingress", EtherType: "IPv4", Protocol: "icmp", RemoteGroupID: "g1"},
		{ID: "twice", Direction: "ingress", EtherType: "IPv4", Protocol: "icmp", RemoteGroupID: "g1"},
		{ID: "open", Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "0.0.0.0/0"},
	}
	missing, surplus := difference(want, have, func(string) string { return "nodes" })
	assert.Equal(t, want[:1], missing)
	require.Len(t, surplus, 2)
	assert.Equal(t, "twice", surplus[0].ID)
	assert.Equal(t, "open", surplus[1].ID)
	missing, surplus = difference(want[1:], have[:2], func(string) string { return "nodes" })
	assert.Empty(t, missing)
	assert.Empty(t, surplus)
}

func TestQuotaThatIsTooSmall(t *testing.T) {
	t.Parallel()
	assert.NoError(t, short("umea.workload", []allowance{{"cores", "", 4, 16, 20}, {"RAM", " MiB", 1 << 20, 0, -1}}))
	err := short("umea.workload", []allowance{{"cores", "", 6, 16, 20}, {"ports", "", 3, 1, 100}, {"RAM", " MiB", 4096, 0, 2048}})
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "cores: 6 are needed, 4 of 20 are free, 2 are missing; RAM: 4096 MiB are needed, 2048 of 2048 are free, 2048 are missing")
	assert.NotContains(t, err.Error(), "ports")
}

func TestOneOfTwo(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 30, 9, minute, 0, 0, time.UTC) }
	choose := func(things ...thing) (string, duplicates) {
		var all []*thing
		for i := range things {
			all = append(all, &things[i])
		}
		var d duplicates
		out := only(&d, "port", all, func(v *thing) thing { return *v }, func(string) func(context.Context) error { return nil })
		return out["p"].id, d
	}
	id, d := choose(thing{name: "p", id: "a", age: at(2)}, thing{name: "p", id: "b", age: at(1)})
	assert.Equal(t, "b", id, "the older one stays")
	require.Len(t, d.steps, 1)
	assert.Equal(t, provider.Delete, d.steps[0].change.Verb)
	id, _ = choose(thing{name: "p", id: "a", age: at(1)}, thing{name: "p", id: "b", age: at(2), used: true})
	assert.Equal(t, "b", id, "the one in use stays")
	id, _ = choose(thing{name: "p", id: "a", age: at(1), worse: true}, thing{name: "p", id: "b", age: at(2)})
	assert.Equal(t, "b", id, "the one that works stays")
	_, d = choose(thing{name: "p", id: "a", used: true, age: at(1)}, thing{name: "p", id: "b", used: true, age: at(2)})
	assert.ErrorIs(t, d.err(), provider.ErrPermanent)
	assert.ErrorContains(t, d.err(), "a and b")
	assert.Empty(t, d.steps, "nothing in use is deleted")
}

func TestLostAnswerIsLookedFor(t *testing.T) {
	t.Parallel()
	made, looked := 0, 0
	got, err := create(t.Context(), "make it", func(context.Context) (*int, error) {
		made++
		return nil, errLost
	}, func(context.Context) (*int, error) {
		looked++
		if looked < 2 {
			return nil, nil //nolint:nilnil // it is not there yet
		}
		return &made, nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1, *got, "it was made once")
	_, err = create(t.Context(), "make it", func(context.Context) (*int, error) { return nil, refusal(400, "no") }, func(context.Context) (*int, error) {
		t.Error("a refusal is certain")
		return nil, nil //nolint:nilnil // as above
	})
	assert.ErrorIs(t, err, provider.ErrPermanent)
}
