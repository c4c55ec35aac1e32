package openstack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopenstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/catamaran-k8s/catamaran/test/lab/guests"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts"
	"github.com/catamaran-k8s/catamaran/test/lab/hosts/process"
	"github.com/catamaran-k8s/catamaran/test/lab/proxy"
)

func TestMain(m *testing.M) {
	hosts.Reexec()
	Reexec() // supervisors are copies of the test program
	os.Exit(m.Run())
}

func TestOptions(t *testing.T) {
	t.Parallel()
	var o Options
	require.NoError(t, o.complete())
	assert.Equal(t, "10.79.0.0/24", o.Servers().String())
	assert.Equal(t, "10.79.1.0/24", o.Floating().String())
	assert.Equal(t, "http://10.79.0.1:24501/v3", o.AuthURL())
	for name, wrong := range map[string]Options{
		"port": {Base: 80}, "mask": {Subnet: netip.MustParsePrefix("10.79.0.0/24")}, "host bits": {Subnet: netip.MustParsePrefix("10.79.1.0/23")}, "computes": {Computes: 10},
	} {
		assert.Error(t, wrong.complete(), name)
	}
}

func TestServerBecomesAMachine(t *testing.T) {
	t.Parallel()
	const file = `{"name": "wc-cp-1", "hostname": "wc-cp-1", "on": true, "disk": "d", "boot": "b", "memoryMiB": 2048, "userData": "%s", "key": "ssh-ed25519 AAAA\n",
		"addresses": [{"port": "other", "address": "192.0.2.1"}, {"port": "p", "address": "10.79.0.5"}]}`
	var x server
	require.NoError(t, json.Unmarshal([]byte(fmt.Sprintf(file, base64.StdEncoding.EncodeToString([]byte("#cloud-config\n")))), &x))
	m, err := x.machine("id", netip.MustParsePrefix("10.79.0.0/24"), map[string][]netip.Addr{"p": {netip.MustParseAddr("10.79.1.9")}, "other": {netip.MustParseAddr("10.79.1.8")}})
	require.NoError(t, err)
	assert.Equal(t, guests.Machine{
		ID: "id", Name: "wc-cp-1", Hostname: "wc-cp-1", Address: netip.MustParseAddr("10.79.0.5"), Further: []netip.Addr{netip.MustParseAddr("10.79.1.9")},
		UserData: []byte("#cloud-config\n"), AuthorizedKeys: []string{"ssh-ed25519 AAAA"}, Memory: 2 << 30, On: true, Disk: "d", Boot: "b",
	}, m)
	_, err = x.machine("id", netip.MustParsePrefix("10.80.0.0/24"), nil)
	assert.ErrorContains(t, err, "has no address in 10.80.0.0/24")
}

func TestProcessesOfACloudAreFoundByMarkAndBySession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(env ...string) process.ID {
		// the shell ends and leaves its child to others
		cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
		cmd.Env, cmd.SysProcAttr = append(os.Environ(), env...), &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		buf := make([]byte, 32)
		n, err := out.Read(buf)
		require.NoError(t, err)
		var child int
		_, err = fmt.Sscan(string(buf[:n]), &child)
		require.NoError(t, err)
		leader, err := process.Of(cmd.Process.Pid)
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		id, err := process.Of(child)
		require.NoError(t, err)
		t.Cleanup(func() { _ = id.End(time.Second) })
		if len(env) > 0 {
			return id
		}
		found, err := leftovers(dir, []Process{{"x", leader}})
		require.NoError(t, err)
		assert.Contains(t, found, id, "it is in a session that is known")
		older := leader
		older.Boot = "another"
		found, err = leftovers(dir, []Process{{"x", older}})
		require.NoError(t, err)
		assert.NotContains(t, found, id, "a session of an earlier boot is not this one")
		return id
	}
	stranger := run()
	ours := run(mark + "=" + dir)
	found, err := leftovers(dir, nil)
	require.NoError(t, err)
	assert.Equal(t, []process.ID{ours}, found)
	require.NoError(t, end(dir, nil, 5*time.Second))
	assert.False(t, ours.Alive())
	assert.True(t, stranger.Alive())
}

// The cloud of these tests stands beside one that may be up.
func testOptions(t *testing.T) Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("run it as root")
	}
	require.NoError(t, Install(context.Background(), func(l string) { t.Log(l) }, os.Stderr))
	o := Options{
		Dir: "/var/lib/catamaran-openstack-test", Name: "catp", Base: 24600, Subnet: netip.MustParsePrefix("10.81.0.0/23"), Computes: 2,
		Log: func(l string) { t.Log(l) },
	}
	require.NoError(t, Down(context.Background(), o, true)) // of a run that was killed
	t.Cleanup(func() { assert.NoError(t, Down(context.Background(), o, true)) })
	return o
}

// user is a project's user.
type user struct {
	compute, network, image *gophercloud.ServiceClient
}

func login(t *testing.T, o Options, cloud string) user {
	t.Helper()
	ctx := context.Background()
	auth, endpoint, tls, err := clouds.Parse(clouds.WithCloudName(cloud), clouds.WithLocations(o.CloudsFile()))
	require.NoError(t, err)
	p, err := config.NewProviderClient(ctx, auth, config.WithTLSConfig(tls))
	require.NoError(t, err)
	var u user
	u.compute, err = gopenstack.NewComputeV2(p, endpoint)
	require.NoError(t, err)
	u.compute.Microversion = "2.93"
	u.network, err = gopenstack.NewNetworkV2(p, endpoint)
	require.NoError(t, err)
	u.image, err = gopenstack.NewImageV2(p, endpoint)
	require.NoError(t, err)
	return u
}

// key makes an SSH key pair.
func key(t *testing.T) (signer ssh.Signer, private, public string) {
	t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(secret, "test")
	require.NoError(t, err)
	signer, err = ssh.NewSignerFromKey(secret)
	require.NoError(t, err)
	return signer, string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// eventually waits for what takes as long as it takes on a busy machine.
func eventually(t *testing.T, what string, ready func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(poll) {
		if err = ready(); err == nil {
			return
		}
	}
	require.NoError(t, err, what)
}

func (u user) active(t *testing.T, id, want string) *servers.Server {
	t.Helper()
	var s *servers.Server
	eventually(t, "server "+want, func() (err error) {
		if s, err = servers.Get(context.Background(), u.compute, id).Extract(); err != nil || s.Status == want {
			return err
		}
		require.NotEqual(t, "ERROR", s.Status, "%s: %s", s.Fault.Message, s.Fault.Details) // it stays so
		return fmt.Errorf("status %s", s.Status)
	})
	return s
}

// A server's life, and the cloud's: one test, since a cloud takes a minute or two to start.
func TestServersAreHosts(t *testing.T) {
	o := testOptions(t)
	ctx := context.Background()
	require.NoError(t, Up(ctx, o))
	require.NoError(t, Up(ctx, o), "one that is up stays as it is")
	for _, f := range []string{"clouds.yaml", "secure.yaml"} {
		st, err := os.Stat(o.path("clouds", f))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), st.Mode().Perm(), f)
	}
	u := login(t, o, WorkloadCloud)
	subnet, portID, image, flavor := u.prepare(t, o)

	_, hostKey, _ := key(t)
	hostSigner, err := ssh.ParsePrivateKey([]byte(hostKey))
	require.NoError(t, err)
	login, _, public := key(t)
	data, err := json.Marshal(map[string]any{
		"hostname": "web-1", "ssh_keys": map[string]string{"ed25519_private": hostKey},
		"users": []map[string]any{{"name": "ops", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": []string{public}}},
	})
	require.NoError(t, err)
	create := servers.CreateOpts{Name: "web-1", FlavorRef: flavor, ImageRef: image, UserData: append([]byte("#cloud-config\n"), data...), Networks: []servers.Network{{Port: portID}}}
	s, err := servers.Create(ctx, u.compute, create, nil).Extract()
	require.NoError(t, err)
	u.active(t, s.ID, "ACTIVE")
	const address = "10.81.0.11"
	run := func(at, command string) (string, error) { return dial(at, login, hostSigner.PublicKey(), command) }
	answer := func(at, command string) string {
		var out string
		eventually(t, command+" at "+at, func() (err error) { out, err = run(at, command); return err })
		return strings.TrimSpace(out)
	}
	assert.Equal(t, "web-1 ops root", answer(address, "echo $(hostname) $(id -un) $(sudo -n id -un)"), "the user data's host key, user and name")
	host := func() guests.Status {
		st, err := Look(o)
		require.NoError(t, err)
		for _, g := range st.Guests {
			if g.ID == s.ID {
				return g
			}
		}
		return guests.Status{}
	}

	t.Run("a floating address is the host's", func(t *testing.T) {
		f := u.float(t, subnet, portID)
		assert.Equal(t, "web-1", answer(f, "hostname"))
	})
	t.Run("a disk outlives a stop", func(t *testing.T) {
		answer(address, "echo here > ~/note; sync")
		require.NoError(t, servers.Stop(ctx, u.compute, s.ID).ExtractErr())
		u.active(t, s.ID, "SHUTOFF")
		eventually(t, "the host is off", func() error {
			if host().Runs {
				return fmt.Errorf("%+v", host())
			}
			return nil
		})
		require.NoError(t, servers.Start(ctx, u.compute, s.ID).ExtractErr())
		u.active(t, s.ID, "ACTIVE")
		assert.Equal(t, "here", answer(address, "cat ~/note"))
	})
	t.Run("a reboot is one", func(t *testing.T) {
		was := answer(address, "cat /proc/1/stat | cut -d' ' -f22")
		require.NoError(t, servers.Reboot(ctx, u.compute, s.ID, servers.RebootOpts{Type: servers.HardReboot}).ExtractErr())
		eventually(t, "another boot", func() error {
			is, err := run(address, "cat /proc/1/stat | cut -d' ' -f22")
			if err == nil && strings.TrimSpace(is) == was {
				err = fmt.Errorf("the same process 1")
			}
			return err
		})
		assert.Equal(t, "here", answer(address, "cat ~/note"))
	})
	t.Run("the console is nova's", func(t *testing.T) {
		eventually(t, "console", func() error {
			out, err := servers.ShowConsoleOutput(ctx, u.compute, s.ID, servers.ShowConsoleOutputOpts{}).Extract()
			if err == nil && !strings.Contains(out, "Reached target multi-user.target") {
				err = fmt.Errorf("%q", out)
			}
			return err
		})
	})
	t.Run("a rebuild brings a fresh disk", func(t *testing.T) {
		_, err := servers.Rebuild(ctx, u.compute, s.ID, servers.RebuildOpts{ImageRef: image}).Extract()
		require.NoError(t, err)
		eventually(t, "a host without the note", func() error {
			out, err := run(address, "ls -A ~/note 2>/dev/null || echo fresh")
			if err == nil && strings.TrimSpace(out) != "fresh" {
				err = fmt.Errorf("%q", out)
			}
			return err
		})
		u.active(t, s.ID, "ACTIVE")
	})
	t.Run("the cloud comes again as it was", func(t *testing.T) {
		answer(address, "echo still > ~/note; sync")
		began := time.Now()
		require.NoError(t, Down(ctx, o, false))
		t.Logf("down in %s", time.Since(began))
		left, err := Leftovers(o)
		require.NoError(t, err)
		assert.Empty(t, left)
		began = time.Now()
		require.NoError(t, Up(ctx, o))
		t.Logf("up in %s", time.Since(began))
		assert.Equal(t, "still", answer(address, "cat ~/note"))
		u.active(t, s.ID, "ACTIVE")
	})
	t.Run("what a killed cloud left is ended", func(t *testing.T) {
		var st state
		_, err := readJSON(o.path("state.json"), &st)
		require.NoError(t, err)
		require.NoError(t, st.Supervisor.End(10*time.Second))
		left, err := Leftovers(o)
		require.NoError(t, err)
		assert.NotEmpty(t, left, "daemons outlive their supervisor")
		require.NoError(t, Up(ctx, o))
		u.active(t, s.ID, "ACTIVE")
		assert.Equal(t, "still", answer(address, "cat ~/note"))
	})
	t.Run("the proxy counts and breaks", func(t *testing.T) {
		c := proxy.Client{Socket: o.ProxySocket()}
		require.NoError(t, c.Set(ctx, proxy.Rule{Match: "^compute GET /v2.1/servers/{id}", Times: 1, Status: 503}))
		_, err := servers.Get(ctx, u.compute, s.ID).Extract()
		assert.True(t, gophercloud.ResponseCodeIs(err, 503), err)
		require.NoError(t, c.Set(ctx))
		before, err := c.Status(ctx)
		require.NoError(t, err)
		u.active(t, s.ID, "ACTIVE")
		after, err := c.Status(ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, after.Total-before.Total)
	})
	t.Run("a flavor that no hypervisor takes", func(t *testing.T) {
		b, err := servers.Create(ctx, u.compute, servers.CreateOpts{Name: "broken", FlavorRef: "lab-" + BrokenFlavor, ImageRef: image, Networks: "none"}, nil).Extract()
		require.NoError(t, err)
		assert.NotEmpty(t, u.active(t, b.ID, "ERROR").Fault.Message)
		require.NoError(t, servers.Delete(ctx, u.compute, b.ID).ExtractErr())
	})
	t.Run("deleted and made again", func(t *testing.T) {
		name := host().Name
		gone := func() {
			require.NoError(t, servers.Delete(ctx, u.compute, s.ID).ExtractErr())
			eventually(t, "host and disk are gone", func() error {
				if host().ID != "" {
					return fmt.Errorf("%+v", host())
				}
				return nil
			})
			assert.NoDirExists(t, o.path("lab", "hosts", name))
		}
		gone()
		var err error
		create.Networks = []servers.Network{{Port: u.port(t, subnet)}}
		s, err = servers.Create(ctx, u.compute, create, nil).Extract()
		require.NoError(t, err)
		u.active(t, s.ID, "ACTIVE")
		assert.Equal(t, "fresh", answer(address, "ls -A ~/note 2>/dev/null || echo fresh"))
		name = host().Name
		gone()
	})
	require.NoError(t, Down(ctx, o, true))
	left, err := Leftovers(o)
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.NoDirExists(t, o.Dir)
}

// prepare makes a network as a project does, and a port for the server.
func (u user) prepare(t *testing.T, o Options) (subnet *subnets.Subnet, port, image, flavor string) {
	t.Helper()
	ctx := context.Background()
	n, err := networks.Create(ctx, u.network, networks.CreateOpts{Name: "servers"}).Extract()
	require.NoError(t, err)
	subnet, err = subnets.Create(ctx, u.network, subnets.CreateOpts{NetworkID: n.ID, Name: "servers", IPVersion: gophercloud.IPv4, CIDR: o.Servers().String()}).Extract()
	require.NoError(t, err)
	page, err := images.List(u.image, images.ListOpts{Name: Image}).AllPages(ctx)
	require.NoError(t, err)
	list, err := images.ExtractImages(page)
	require.NoError(t, err)
	require.Len(t, list, 1)
	page, err = flavors.ListDetail(u.compute, nil).AllPages(ctx)
	require.NoError(t, err)
	all, err := flavors.ExtractFlavors(page)
	require.NoError(t, err)
	for _, f := range all {
		if f.Name == "small" {
			flavor = f.ID
		}
	}
	return subnet, u.port(t, subnet), list[0].ID, flavor
}

// port makes one with the address that the server has in these tests; an earlier one goes.
func (u user) port(t *testing.T, subnet *subnets.Subnet) string {
	t.Helper()
	ctx := context.Background()
	page, err := ports.List(u.network, ports.ListOpts{Name: "web-1"}).AllPages(ctx)
	require.NoError(t, err)
	have, err := ports.ExtractPorts(page)
	require.NoError(t, err)
	for _, p := range have {
		require.NoError(t, ports.Delete(ctx, u.network, p.ID).ExtractErr())
	}
	p, err := ports.Create(ctx, u.network, ports.CreateOpts{NetworkID: subnet.NetworkID, Name: "web-1", FixedIPs: []ports.IP{{SubnetID: subnet.ID, IPAddress: "10.81.0.11"}}}).Extract()
	require.NoError(t, err)
	return p.ID
}

// float gives the port a floating address.
func (u user) float(t *testing.T, subnet *subnets.Subnet, port string) string {
	t.Helper()
	ctx := context.Background()
	page, err := networks.List(u.network, networks.ListOpts{Name: ExternalNetwork}).AllPages(ctx)
	require.NoError(t, err)
	list, err := networks.ExtractNetworks(page)
	require.NoError(t, err)
	require.Len(t, list, 1)
	r, err := routers.Create(ctx, u.network, routers.CreateOpts{Name: "way-out", GatewayInfo: &routers.GatewayInfo{NetworkID: list[0].ID}}).Extract()
	require.NoError(t, err)
	_, err = routers.AddInterface(ctx, u.network, r.ID, routers.AddInterfaceOpts{SubnetID: subnet.ID}).Extract()
	require.NoError(t, err)
	f, err := floatingips.Create(ctx, u.network, floatingips.CreateOpts{FloatingNetworkID: list[0].ID, PortID: port}).Extract()
	require.NoError(t, err)
	eventually(t, "floating address ACTIVE", func() error {
		x, err := floatingips.Get(ctx, u.network, f.ID).Extract()
		if err == nil && x.Status != "ACTIVE" {
			err = fmt.Errorf("status %s", x.Status)
		}
		return err
	})
	return f.FloatingIP
}

// dial runs a command over SSH; the host must show the key.
func dial(address string, login ssh.Signer, hostKey ssh.PublicKey, command string) (string, error) {
	c, err := ssh.Dial("tcp", net.JoinHostPort(address, "22"), &ssh.ClientConfig{
		User: "ops", Auth: []ssh.AuthMethod{ssh.PublicKeys(login)}, HostKeyCallback: ssh.FixedHostKey(hostKey), HostKeyAlgorithms: []string{hostKey.Type()}, Timeout: 5 * time.Second,
	})
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	s, err := c.NewSession()
	if err != nil {
		return "", err
	}
	out, err := s.Output(command)
	return string(out), err
}
