package vsphere

import (
	"context"
	"crypto/tls"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

// bodies is a stand-in for *guests.Guests: what is wanted runs at once.
type bodies struct {
	mu   sync.Mutex
	want []guests.Machine
}

func (b *bodies) Want(m []guests.Machine) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.want = slices.Clone(m)
}

func (b *bodies) Status() ([]guests.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []guests.Status
	for _, m := range b.want {
		out = append(out, guests.Status{ID: m.ID, Name: m.Name, Address: m.Address, Runs: m.On, Settled: true})
	}
	return out, nil
}

func (b *bodies) wanted(name string) *guests.Machine {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.want {
		if m.Name == name {
			return &m
		}
	}
	return nil
}

const password = "a password"

// start starts a vCenter whose machines are stand-ins, and returns a client that trusts its certificate and nothing else.
func start(t *testing.T) (*server, *bodies, *vim25.Client, proxy.Client) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	v, err := newServer(t.Context(), netip.MustParseAddr("127.0.0.1"), password)
	require.NoError(t, err)
	t.Cleanup(v.close)
	b := &bodies{}
	p := newPower(v.model, b, newLeases(netip.MustParsePrefix("10.84.0.0/23")))
	socket := filepath.Join(t.TempDir(), "control")
	control, err := v.control(socket, p)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.follow(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
		assert.NoError(t, control.Close())
	})
	return v, b, connect(t, v), proxy.Client{Socket: socket}
}

func connect(t *testing.T, v *server) *vim25.Client {
	t.Helper()
	u, err := url.Parse(v.url)
	require.NoError(t, err)
	s := soap.NewClient(u, false)
	s.SetThumbprint(u.Host, v.thumbprint)
	c, err := vim25.NewClient(t.Context(), s)
	require.NoError(t, err)
	return c
}

func login(t *testing.T, c *vim25.Client, password string) error {
	t.Helper()
	return session.NewManager(c).Login(t.Context(), url.UserPassword(User, password))
}

// clone makes a virtual machine from the template.
func clone(t *testing.T, c *vim25.Client, name string, extra map[string]string) *object.VirtualMachine {
	t.Helper()
	f := find.NewFinder(c)
	dc, err := f.Datacenter(t.Context(), Datacenter)
	require.NoError(t, err)
	f.SetDatacenter(dc)
	template, err := f.VirtualMachine(t.Context(), Template)
	require.NoError(t, err)
	pool, err := f.ResourcePool(t.Context(), Cluster+"/Resources")
	require.NoError(t, err)
	folder, err := f.Folder(t.Context(), "vm")
	require.NoError(t, err)
	where := pool.Reference()
	task, err := template.Clone(t.Context(), folder, name, types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{Pool: &where}, Config: &types.VirtualMachineConfigSpec{ExtraConfig: object.OptionValueListFromMap(extra)},
	})
	require.NoError(t, err)
	info, err := task.WaitForResult(t.Context(), nil)
	require.NoError(t, err)
	return object.NewVirtualMachine(c, info.Result.(types.ManagedObjectReference))
}

func TestOnlyWhoSignsInGetsIn(t *testing.T) {
	v, _, c, _ := start(t)
	assert.True(t, fault.Is(login(t, c, "wrong"), &types.InvalidLogin{}))
	require.NoError(t, login(t, c, password))
	assert.Error(t, rest.NewClient(c).Login(t.Context(), url.UserPassword(User, "wrong")))

	u, err := url.Parse(v.url)
	require.NoError(t, err)
	_, err = govmomi.NewClient(t.Context(), u, false)
	var unknown *tls.CertificateVerificationError
	assert.ErrorAs(t, err, &unknown, "nobody knows who signed its certificate")
}

func TestSeeds(t *testing.T) {
	_, _, c, _ := start(t)
	require.NoError(t, login(t, c, password))
	f := find.NewFinder(c)
	dc, err := f.Datacenter(t.Context(), Datacenter)
	require.NoError(t, err)
	f.SetDatacenter(dc)
	_, err = f.ClusterComputeResource(t.Context(), Cluster)
	require.NoError(t, err)
	_, err = f.Datastore(t.Context(), Datastore)
	require.NoError(t, err)
	_, err = f.Datastore(t.Context(), DatastoreCluster+"/*")
	require.NoError(t, err)
	_, err = f.Network(t.Context(), Network)
	require.NoError(t, err)
	vm, err := f.VirtualMachine(t.Context(), Template)
	require.NoError(t, err)
	var m mo.VirtualMachine
	require.NoError(t, vm.Properties(t.Context(), vm.Reference(), []string{"config.template", "snapshot"}, &m))
	assert.True(t, m.Config.Template)
	assert.NotNil(t, m.Snapshot, "linked clones need one")
	r := rest.NewClient(c)
	require.NoError(t, r.Login(t.Context(), url.UserPassword(User, password)))
	_, err = tags.NewManager(r).GetTags(t.Context())
	assert.NoError(t, err)
}

// A machine's life: it runs when it is powered on, with the address of its guestinfo or one of DHCP, which the tools report; off it
// does not; destroyed it is gone, and its address is free.
func TestPower(t *testing.T) {
	_, b, c, _ := start(t)
	require.NoError(t, login(t, c, password))
	fixed := clone(t, c, "fixed", map[string]string{
		"guestinfo.metadata": b64(`{"local-hostname": "fixed-1", "cleanup-guestinfo": ["userdata"], "network": {"version": 2, "ethernets": ` +
			`{"nodes": {"addresses": ["10.84.0.11/23"], "routes": [{"to": "0.0.0.0/0", "via": "10.84.0.1"}]}}}}`),
		"guestinfo.metadata.encoding": "base64",
		"guestinfo.userdata":          b64("#cloud-config\nhostname: x\n"), "guestinfo.userdata.encoding": "base64",
	})
	asks := clone(t, c, "asks", nil)
	time.Sleep(2 * lookEvery)
	assert.Nil(t, b.wanted("fixed"), "off since it was made")
	for vm, want := range map[*object.VirtualMachine]string{fixed: "10.84.0.11", asks: "10.84.1.1"} {
		task, err := vm.PowerOn(t.Context())
		require.NoError(t, err)
		require.NoError(t, task.WaitEx(t.Context()))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got, err := vm.WaitForIP(ctx, true)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		_, err = vm.WaitForNetIP(ctx, true)
		require.NoError(t, err)
	}
	m := b.wanted("fixed")
	require.NotNil(t, m)
	assert.Equal(t, "fixed-1", m.Hostname)
	assert.Equal(t, "#cloud-config\nhostname: x\n", string(m.UserData))
	var seen mo.VirtualMachine
	require.NoError(t, fixed.Properties(t.Context(), fixed.Reference(), []string{"config.extraConfig"}, &seen))
	left, _ := object.OptionValueList(seen.Config.ExtraConfig).GetString("guestinfo.userdata")
	assert.Equal(t, "---", left, "the host key is no longer in the vCenter")

	boot := m.Boot
	require.NoError(t, done(t.Context())(fixed.PowerOff(t.Context())))
	assert.Eventually(t, func() bool { return !b.wanted("fixed").On }, 5*time.Second, 50*time.Millisecond)
	assert.Eventually(t, func() bool {
		var off mo.VirtualMachine
		require.NoError(t, fixed.Properties(t.Context(), fixed.Reference(), []string{"guest"}, &off))
		return off.Guest.IpAddress == ""
	}, 5*time.Second, 50*time.Millisecond, "the tools of a machine that is off report nothing")
	require.NoError(t, done(t.Context())(fixed.PowerOn(t.Context())))
	assert.Eventually(t, func() bool { return b.wanted("fixed").On && b.wanted("fixed").Boot != boot }, 5*time.Second, 50*time.Millisecond)
	for _, vm := range []*object.VirtualMachine{fixed, asks} {
		require.NoError(t, done(t.Context())(vm.PowerOff(t.Context())))
		require.NoError(t, done(t.Context())(vm.Destroy(t.Context())))
	}
	assert.Eventually(t, func() bool { return b.wanted("fixed") == nil && b.wanted("asks") == nil }, 5*time.Second, 50*time.Millisecond)
}

func TestAGuestThatCanNotRunSaysWhy(t *testing.T) {
	_, b, c, p := start(t)
	require.NoError(t, login(t, c, password))
	vm := clone(t, c, "elsewhere", map[string]string{
		"guestinfo.metadata": `{"network": {"ethernets": {"nodes": {"addresses": ["192.0.2.1/24"]}}}}`,
	})
	require.NoError(t, done(t.Context())(vm.PowerOn(t.Context())))
	assert.Eventually(t, func() bool {
		var list []Guest
		require.NoError(t, p.Get(t.Context(), "/guests", &list))
		return len(list) == 1 && list[0].VM == "elsewhere" && list[0].Error == "the address 192.0.2.1/24 is not one of the network 10.84.0.0/23"
	}, 5*time.Second, 50*time.Millisecond)
	assert.Nil(t, b.wanted("elsewhere"))
}

func TestTheProxyKnowsOperations(t *testing.T) {
	_, _, c, p := start(t)
	require.NoError(t, login(t, c, password))
	r := rest.NewClient(c)
	require.NoError(t, r.Login(t.Context(), url.UserPassword(User, password)))
	_, err := tags.NewManager(r).CreateCategory(t.Context(), &tags.Category{Name: "x", Cardinality: "SINGLE"})
	require.NoError(t, err)
	s, err := p.Status(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 1, s.Counts["Login"], "%v", s.Counts)
	assert.Equal(t, 1, s.Counts["POST /rest/com/vmware/cis/tagging/category"], "%v", s.Counts)

	require.NoError(t, p.Set(t.Context(), proxy.Rule{Match: "^CreateFolder$", Unsigned: true}))
	f := find.NewFinder(c)
	dc, err := f.Datacenter(t.Context(), Datacenter)
	require.NoError(t, err)
	folders, err := dc.Folders(t.Context())
	require.NoError(t, err)
	_, err = folders.VmFolder.CreateFolder(t.Context(), "x")
	assert.True(t, fault.Is(err, &types.NotAuthenticated{}), "%v", err)
}
