package vsphere

// The stand-in of a vCenter: govmomi's simulator, behind a proxy that sees, cuts off and spoils every call.

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	_ "github.com/vmware/govmomi/vapi/simulator" // the tagging API
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

const (
	user, password = "lab@vsphere.local", "secret"
	template       = "DC0_C0_RP0_VM0"
	machineVIP     = "10.9.255.1"
)

// cloud is one simulated vCenter with a template, four machines that somebody made, and guests that report addresses.
type cloud struct {
	model   *simulator.Model
	front   *httptest.Server
	admin   *client // past the proxy
	keyFile string
	locked  atomic.Bool // nobody can sign in

	mu    sync.Mutex
	watch func(call string) // before and after each call that changes something
	hook  func(call string, w http.ResponseWriter, body []byte) (answered bool)
	calls []string
	sleep func(call string) time.Duration // before a guest reports
	wg    sync.WaitGroup
}

func newCloud(t testing.TB) *cloud {
	t.Helper()
	m := simulator.VPX()
	m.Datastore, m.Machine, m.Host, m.Pod = 2, 5, 0, 1
	require.NoError(t, m.Create())
	c := &cloud{model: m, watch: func(string) {}, sleep: func(string) time.Duration { return 0 }}
	m.Service.RegisterEndpoints = true
	m.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(user, password)}
	m.Map().SessionManager().ValidLogin = func(l *types.Login) bool { return !c.locked.Load() && l.UserName == user && l.Password == password }
	back := m.Service.NewServer()
	c.front = httptest.NewTLSServer(c.proxy(back.URL))
	t.Cleanup(func() {
		c.front.Close()
		c.wg.Wait()
		back.Close()
		m.Remove()
	})
	var err error
	c.admin, err = connect(t.Context(), account{url: &url.URL{Scheme: "http", Host: back.URL.Host, Path: "/sdk"}, user: url.UserPassword(user, password)})
	require.NoError(t, err)
	c.makeTemplate(t)
	c.keyFile = filepath.Join(t.TempDir(), "id_ed25519")
	require.NoError(t, os.WriteFile(c.keyFile+".pub", []byte(c.publicKey(t)), 0o600))
	return c
}

func (c *cloud) publicKey(t testing.TB) string {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := ssh.NewPublicKey(public)
	require.NoError(t, err)
	return string(ssh.MarshalAuthorizedKey(key))
}

// makeTemplate turns the first machine into a template with a snapshot; the others get addresses.
func (c *cloud) makeTemplate(t testing.TB) {
	vm := c.named(t, template)
	c.done(t, func() (*object.Task, error) { return vm.CreateSnapshot(t.Context(), "clean", "", false, false) })
	c.done(t, func() (*object.Task, error) { return vm.PowerOff(t.Context()) })
	require.NoError(t, vm.MarkAsTemplate(t.Context()))
	for i := 1; i < 5; i++ {
		c.report(t.Context(), c.named(t, foreign(i)).Reference(), fmt.Sprintf("10.9.254.%d", i))
	}
}

// foreign is a machine that somebody else made.
func foreign(i int) string { return fmt.Sprintf("DC0_C0_RP0_VM%d", i) }

func (c *cloud) named(t testing.TB, name string) *object.VirtualMachine {
	all, err := c.admin.list(t.Context(), c.admin.ServiceContent.RootFolder, map[string][]string{"VirtualMachine": nil})
	require.NoError(t, err)
	for r, m := range all {
		if m.name == name {
			return object.NewVirtualMachine(c.admin.Client, r)
		}
	}
	require.Fail(t, "there is no machine "+name)
	return nil
}

func (c *cloud) done(t testing.TB, do func() (*object.Task, error)) {
	t.Helper()
	task, err := do()
	require.NoError(t, err)
	require.NoError(t, task.Wait(t.Context()))
}

// set changes settings of a machine past the proxy.
func (c *cloud) set(t testing.TB, name string, settings map[string]string) {
	t.Helper()
	c.done(t, func() (*object.Task, error) {
		return c.named(t, name).Reconfigure(t.Context(), types.VirtualMachineConfigSpec{ExtraConfig: object.OptionValueListFromMap(settings)})
	})
}

// report is what a guest's tools do.
func (c *cloud) report(ctx context.Context, vm ref, address string) {
	task, err := object.NewVirtualMachine(c.admin.Client, vm).Reconfigure(ctx, types.VirtualMachineConfigSpec{
		ExtraConfig: object.OptionValueListFromMap(map[string]string{"SET.guest.ipAddress": address}),
	})
	if err == nil {
		_ = task.Wait(ctx)
	}
}

// readOnly are the calls that change nothing.
func readOnly(call string) bool {
	switch call {
	case "RetrieveServiceContent", "Login", "Logout", "CreateContainerView", "DestroyView", "RetrievePropertiesEx", "RetrieveProperties",
		"CreatePropertyCollector", "DestroyPropertyCollector", "CreateFilter", "WaitForUpdatesEx", "RecommendDatastores":
		return true
	}
	return strings.HasPrefix(call, "GET ") || strings.Contains(call, "/session") || strings.Contains(call, "~action=list-")
}

var (
	soapCall = regexp.MustCompile(`<(?:\w+:)?Body[^>]*>\s*<(?:\w+:)?(\w+)`)
	soapThis = regexp.MustCompile(`<_this[^>]*>([^<]+)<`)
)

func (c *cloud) proxy(back *url.URL) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: back.Host}) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		call := r.Method + " " + r.URL.RequestURI()
		if m := soapCall.FindSubmatch(body); m != nil {
			call = string(m[1])
		}
		c.mu.Lock()
		c.calls = append(c.calls, call)
		watch, hook := c.watch, c.hook
		c.mu.Unlock()
		if hook != nil && hook(call, w, body) {
			return
		}
		if !readOnly(call) {
			watch(call)
		}
		forward.ServeHTTP(w, r)
		if call == "PowerOnVM_Task" {
			if m := soapThis.FindSubmatch(body); m != nil {
				c.boot(ref{Type: "VirtualMachine", Value: string(m[1])})
			}
		}
		if !readOnly(call) {
			watch(call)
		}
	})
}

// boot has the guest report an address that follows from its machine.
func (c *cloud) boot(vm ref) {
	var n int
	_, _ = fmt.Sscanf(vm.Value, "vm-%d", &n)
	c.mu.Lock()
	wait := c.sleep(vm.Value)
	c.mu.Unlock()
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		time.Sleep(wait)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		c.report(ctx, vm, fmt.Sprintf("10.9.%d.%d", n/200, n%200+1))
	}()
}

func (c *cloud) onCall(f func(call string, w http.ResponseWriter, body []byte) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = f
}

func (c *cloud) counted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.calls
	c.calls = nil
	return out
}

// env is what govc's users have set.
func (c *cloud) env() map[string]string {
	return map[string]string{"GOVC_URL": c.front.URL + "/sdk", "GOVC_USERNAME": user, "GOVC_PASSWORD": password}
}

func (c *cloud) Provider(testing.TB) provider.Provider { return c.with(nil) }

// with is a provider with some variables changed.
func (c *cloud) with(change map[string]string) *Provider {
	env := c.env()
	for k, v := range change {
		env[k] = v
	}
	return New(func(k string) string { return env[k] })
}

func (c *cloud) thumbprint() string {
	sum := sha256.Sum256(c.front.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

const head = `
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: umea}
kubernetes: {version: 1.37.2}
ssh: {user: ops, keyFile: %s}
clusters:
`

const cluster = `
  %s:
    endpoint: {address: 10.9.255.1, mode: vip}
    network: {podCIDR: 10.%d.0.0/16, serviceCIDR: 10.%d.0.0/16}
    provider:
      vsphere:
        thumbprint: %q
        datacenter: DC0
        machine:
          template: /DC0/vm/DC0_C0_RP0_VM0
          cluster: DC0_C0
          datastore: LocalDS_0
          network: DC0_DVPG0
          cpus: 2
          memoryMiB: 2048
`

// site reads an inventory with a workload cluster of these nodes and pools (YAML).
func (c *cloud) site(t testing.TB, nodes string) provider.Request {
	t.Helper()
	text := fmt.Sprintf(head, c.keyFile) + fmt.Sprintf(cluster, "workload", 102, 103, c.thumbprint()) + nodes
	inv, err := inventory.Parse([]byte(text), "inventory.yaml")
	require.NoError(t, err)
	return provider.Request{Inventory: inv, Cluster: inventory.Workload}
}

func (c *cloud) Request(t testing.TB, w providertest.Want) provider.Request {
	text := "    nodes:\n"
	for i := range w.Nodes {
		role, state, more := "worker", "present", ""
		if i == 0 {
			role = "control-plane"
		} else if i == w.Nodes-2 {
			state = "absent"
		}
		if i < w.Adopted {
			more = ", vsphere: {vm: " + foreign(i+1) + "}"
		}
		text += fmt.Sprintf("      - {name: wc-%d, role: %s, state: %s%s}\n", i, role, state, more)
	}
	return c.site(t, text)
}

// Resources are all kinds of things that the provider makes, whoever made them.
func (c *cloud) Resources(t testing.TB) []string {
	t.Helper()
	ctx := context.Background() // also in a cleanup
	all, err := c.admin.list(ctx, c.admin.ServiceContent.RootFolder, map[string][]string{
		"Folder": nil, "VirtualMachine": nil, "ClusterComputeResource": {"configurationEx"},
	})
	require.NoError(t, err)
	var out []string
	for r, x := range all {
		if conf, ok := x.props["configurationEx"].(types.ClusterConfigInfoEx); ok {
			for _, rule := range conf.Rule {
				out = append(out, "rule "+rule.GetClusterRuleInfo().Name+" "+rule.GetClusterRuleInfo().RuleUuid)
			}
		} else {
			out = append(out, fmt.Sprintf("%s %s %s", r.Type, r.Value, x.name))
		}
	}
	var fields mo.CustomFieldsManager
	require.NoError(t, c.admin.get(ctx, *c.admin.ServiceContent.CustomFieldsManager, []string{"field"}, &fields))
	for _, f := range fields.Field {
		out = append(out, fmt.Sprintf("attribute %d %s", f.Key, f.Name))
	}
	m := tags.NewManager(rest.NewClient(c.admin.Client))
	require.NoError(t, m.Login(ctx, url.UserPassword(user, password)))
	categories, err := m.GetCategories(ctx)
	require.NoError(t, err)
	for _, x := range categories {
		out = append(out, "category "+x.ID+" "+x.Name)
	}
	tagged, err := m.GetTags(ctx)
	require.NoError(t, err)
	for _, x := range tagged {
		out = append(out, "tag "+x.ID+" "+x.Name)
	}
	require.NoError(t, m.Logout(ctx))
	sort.Strings(out)
	return out
}

func (c *cloud) Watch(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = func(string) { f() }
}

func (c *cloud) Break(testing.TB) bool {
	c.locked.Store(true)
	return true
}

func (c *cloud) Spoil(_ testing.TB, r provider.Request) (provider.Request, bool) {
	nodes := r.Inventory.Cluster(r.Cluster).Nodes
	nodes[len(nodes)-1].VSphere = &inventory.VSphereMachine{Datastore: "LocalDS_7"}
	return r, true
}

// machine reads one machine of the cloud.
func (c *cloud) machine(t testing.TB, name string) mo.VirtualMachine {
	t.Helper()
	var out mo.VirtualMachine
	require.NoError(t, c.admin.get(t.Context(), c.named(t, name).Reference(), nil, &out))
	return out
}

// settings are the machine's settings that are texts.
func settings(vm mo.VirtualMachine) map[string]string {
	out := map[string]string{}
	for _, o := range vm.Config.ExtraConfig {
		out[o.GetOptionValue().Key], _ = o.GetOptionValue().Value.(string)
	}
	return out
}

// expire ends all sessions but the administrator's.
func (c *cloud) expire(ctx context.Context) {
	var m mo.SessionManager
	if c.admin.get(ctx, *c.admin.ServiceContent.SessionManager, []string{"sessionList", "currentSession"}, &m) != nil {
		return
	}
	for _, s := range m.SessionList {
		if s.Key != m.CurrentSession.Key {
			_, _ = methods.TerminateSession(ctx, c.admin.Client, &types.TerminateSession{This: m.Self, SessionId: []string{s.Key}})
		}
	}
}
