package openstack_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	sdk "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/openstack"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

// world is one site in the project. Others may be in it at the same time; their resources are none of this world's.
type world struct {
	site                     string
	compute, network, volume *gophercloud.ServiceClient
	flavor, image            string
	watched                  atomic.Pointer[func()]
	fault                    atomic.Pointer[func(*http.Request, http.RoundTripper) (*http.Response, error)]
	requests                 atomic.Int64

	mu      sync.Mutex
	foreign string // the network of servers that somebody else made
}

func newWorld(t testing.TB) *world {
	need(t)
	auth, endpoints, tls, err := clouds.Parse(clouds.WithCloudName(*cloudName), clouds.WithLocations(*cloudsFile))
	require.NoError(t, err)
	auth.AllowReauth = true
	signed, err := config.NewProviderClient(t.Context(), auth, config.WithTLSConfig(tls))
	require.NoError(t, err)
	id := make([]byte, 4)
	_, err = rand.Read(id)
	require.NoError(t, err)
	w := &world{site: *prefix + hex.EncodeToString(id), flavor: *flavorName, image: *imageName}
	w.compute, err = sdk.NewComputeV2(signed, endpoints)
	require.NoError(t, err)
	w.compute.Microversion = "2.64"
	w.network, err = sdk.NewNetworkV2(signed, endpoints)
	require.NoError(t, err)
	w.volume, err = sdk.NewBlockStorageV3(signed, endpoints)
	require.NoError(t, err)
	if w.image == "" {
		client, err := sdk.NewImageV2(signed, endpoints)
		require.NoError(t, err)
		page, err := images.List(client, images.ListOpts{Status: images.ImageStatusActive}).AllPages(t.Context())
		require.NoError(t, err)
		all, err := images.ExtractImages(page)
		require.NoError(t, err)
		require.NotEmpty(t, all, "the project sees no image")
		w.image = all[0].ID
	}
	t.Cleanup(func() { w.clean(t) })
	return w
}

func (w *world) Provider(testing.TB) provider.Provider {
	return openstack.New(openstack.Options{CloudsFile: *cloudsFile, Poll: time.Second, Timeout: 2 * time.Minute, Transport: w.transport})
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// transport counts requests, lets the watcher in around those that change something, and does what a fault asks for.
func (w *world) transport(base http.RoundTripper) http.RoundTripper {
	return tripper(func(r *http.Request) (*http.Response, error) {
		w.requests.Add(1)
		changes := r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/auth/tokens")
		watch := w.watched.Load()
		if changes && watch != nil {
			(*watch)()
		}
		var resp *http.Response
		var err error
		if fault := w.fault.Load(); fault != nil {
			resp, err = (*fault)(r, base)
		} else {
			resp, err = base.RoundTrip(r)
		}
		if changes && watch != nil {
			(*watch)()
		}
		return resp, err
	})
}

func (w *world) Watch(f func()) { w.watched.Store(&f) }

// Break makes the cloud refuse everything.
func (w *world) Break(testing.TB) bool {
	w.inject(func(r *http.Request, _ http.RoundTripper) (*http.Response, error) {
		return answer(r, http.StatusForbidden, `{"forbidden": {"message": "Policy doesn't allow it"}}`), nil
	})
	return true
}

func (w *world) inject(f func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	w.fault.Store(&f)
}

func answer(r *http.Request, code int, body string) *http.Response {
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func (w *world) Spoil(_ testing.TB, r provider.Request) (provider.Request, bool) {
	r.Inventory.Clusters.Workload.Nodes = slices.Clone(r.Inventory.Clusters.Workload.Nodes)
	last := &r.Inventory.Clusters.Workload.Nodes[len(r.Inventory.Clusters.Workload.Nodes)-1]
	m := inventory.OpenStackMachine{}
	if last.OpenStack != nil {
		m = *last.OpenStack
	}
	m.Flavor = "no-such-flavor"
	last.OpenStack = &m
	return r, true
}

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxb1Wa7yyLZVwGlhqp2u1ZWS2a2s5tBsnlP6rYk3Yd0"

func (w *world) Request(t testing.TB, want providertest.Want) provider.Request {
	text := fmt.Sprintf(`
apiVersion: catamaran/v1alpha1
kind: Inventory
metadata: {name: %s}
kubernetes: {version: 1.37.2}
ssh: {user: ops, authorizedKeys: ["%s"]}
clusters:
  workload:
    endpoint: {address: 10.88.0.250}
    network: {podCIDR: 10.102.0.0/16, serviceCIDR: 10.103.0.0/16}
    provider: {openstack: {cloud: %s, network: {cidr: 10.88.0.0/24, external: %s}, machine: {flavor: %s, image: %s}}}
    nodes:
`, w.site, key, *cloudName, *external, w.flavor, w.image)
	for i := range want.Nodes {
		role, state, more := inventory.Worker, inventory.Present, ""
		if i == 0 {
			role = inventory.ControlPlane
		} else if i == want.Nodes-2 {
			state = inventory.Absent
		}
		if i < want.Adopted {
			more = ", openstack: {server: " + w.adopt(t, i) + "}"
		}
		text += fmt.Sprintf("      - {name: wc-%d, role: %s, state: %s%s}\n", i, role, state, more)
	}
	return w.parse(t, text)
}

func (w *world) parse(t testing.TB, text string) provider.Request {
	inv, err := inventory.Parse([]byte(text), "inventory.yaml")
	require.NoError(t, err)
	return provider.Request{Inventory: inv, Cluster: inventory.Workload}
}

// adopt makes a server as somebody else would.
func (w *world) adopt(t testing.TB, i int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx := t.Context()
	name := fmt.Sprintf("%s-foreign-%d", w.site, i)
	for _, s := range w.servers(t) {
		if s.Name == name {
			return name
		}
	}
	if w.foreign == "" {
		n, err := networks.Create(ctx, w.network, networks.CreateOpts{Name: w.site + "-foreign"}).Extract()
		require.NoError(t, err)
		_, err = subnets.Create(ctx, w.network, subnets.CreateOpts{Name: w.site + "-foreign", NetworkID: n.ID, CIDR: "10.89.0.0/24", IPVersion: gophercloud.IPv4}).Extract()
		require.NoError(t, err)
		w.foreign = n.ID
	}
	page, err := flavors.ListDetail(w.compute, flavors.ListOpts{}).AllPages(ctx)
	require.NoError(t, err)
	all, err := flavors.ExtractFlavors(page)
	require.NoError(t, err)
	at := slices.IndexFunc(all, func(f flavors.Flavor) bool { return f.Name == w.flavor })
	require.GreaterOrEqual(t, at, 0, "there is no flavor %s", w.flavor)
	s, err := servers.Create(ctx, w.compute, servers.CreateOpts{Name: name, FlavorRef: all[at].ID, ImageRef: w.image, Networks: []servers.Network{{UUID: w.foreign}}}, nil).Extract()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		got, err := servers.Get(ctx, w.compute, s.ID).Extract()
		return err == nil && got.Status == "ACTIVE"
	}, 3*time.Minute, time.Second)
	return name
}

func (w *world) servers(t testing.TB) []servers.Server {
	page, err := servers.List(w.compute, servers.ListOpts{}).AllPages(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	all, err := servers.ExtractServers(page)
	require.NoError(t, err)
	return all
}

// Resources are all kinds that bear the site's name in a name, a description or metadata, and what is on its networks.
func (w *world) Resources(t testing.TB) []string {
	out := []string{}
	ours := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, w.site) })
	}
	for _, s := range w.servers(t) {
		if ours(s.Name, s.Metadata["catamaran-site"]) {
			out = append(out, "server "+s.ID)
		}
	}
	ctx := context.WithoutCancel(t.Context())
	nets := map[string]bool{}
	for _, kind := range []func() error{
		func() error {
			page, err := networks.List(w.network, networks.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := networks.ExtractNetworks(page)
			for _, v := range all {
				if ours(v.Name, v.Description) {
					nets[v.ID] = true
					out = append(out, "network "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := subnets.List(w.network, subnets.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := subnets.ExtractSubnets(page)
			for _, v := range all {
				if ours(v.Name, v.Description) {
					out = append(out, "subnet "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := ports.List(w.network, ports.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := ports.ExtractPorts(page)
			for _, v := range all {
				// the network's own DHCP port comes when it comes
				if v.DeviceOwner != "network:dhcp" && (nets[v.NetworkID] || ours(v.Name, v.Description)) {
					out = append(out, "port "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := routers.List(w.network, routers.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := routers.ExtractRouters(page)
			for _, v := range all {
				if ours(v.Name, v.Description) {
					out = append(out, "router "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := groups.List(w.network, groups.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := groups.ExtractGroups(page)
			for _, v := range all {
				if ours(v.Name, v.Description) {
					out = append(out, "security group "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := floatingips.List(w.network, floatingips.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := floatingips.ExtractFloatingIPs(page)
			for _, v := range all {
				if ours(v.Description) {
					out = append(out, "floating IP "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := servergroups.List(w.compute, servergroups.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := servergroups.ExtractServerGroups(page)
			for _, v := range all {
				if ours(v.Name) {
					out = append(out, "server group "+v.ID)
				}
			}
			return err
		},
		func() error {
			page, err := volumes.List(w.volume, volumes.ListOpts{}).AllPages(ctx)
			if err != nil {
				return err
			}
			all, err := volumes.ExtractVolumes(page)
			for _, v := range all {
				if ours(v.Name, v.Metadata["catamaran-site"]) {
					out = append(out, "volume "+v.ID)
				}
			}
			return err
		},
	} {
		require.NoError(t, kind())
	}
	slices.Sort(out)
	return out
}

// clean takes away what a case left: ours by the provider, the rest by hand.
func (w *world) clean(t testing.TB) {
	w.fault.Store(nil)
	w.watched.Store(nil)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the test's own has ended
	defer cancel()
	inv := &inventory.Inventory{Metadata: inventory.Metadata{Name: w.site}}
	inv.Clusters.Workload = &inventory.Cluster{Provider: inventory.Provider{OpenStack: &inventory.OpenStack{Cloud: *cloudName}}}
	if err := w.Provider(t).Destroy(ctx, provider.Request{Inventory: inv, Cluster: inventory.Workload}, nil); err != nil {
		t.Errorf("clean up %s: %v", w.site, err)
	}
	for _, s := range w.servers(t) {
		if strings.HasPrefix(s.Name, w.site) {
			_ = servers.Delete(ctx, w.compute, s.ID).ExtractErr() // the network below tells when it failed
		}
	}
	if w.foreign != "" {
		require.Eventually(t, func() bool { return networks.Delete(ctx, w.network, w.foreign).ExtractErr() == nil }, 2*time.Minute, time.Second)
	}
}

var _ providertest.World = (*world)(nil)
