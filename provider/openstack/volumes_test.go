package openstack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

// jobWith is a job of the workload cluster of the site umea, with these machines' settings for all nodes.
func jobWith(t *testing.T, m inventory.OpenStackMachine, nodes ...inventory.Node) *job {
	inv := site(t)
	c := inv.Clusters.Workload
	c.Nodes, c.Provider.OpenStack.Machine = nodes, m
	return &job{
		p: New(Options{}), cloud: &cloud{volume: &gophercloud.ServiceClient{}}, world: &world{},
		request: provider.Request{Inventory: inv, Cluster: inventory.Workload}, cluster: c, spec: c.Provider.OpenStack,
		names: names{"umea", inventory.Workload}, volumeOf: map[string]string{},
	}
}

func service(t *testing.T, answer http.HandlerFunc) *gophercloud.ServiceClient {
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return &gophercloud.ServiceClient{ProviderClient: &gophercloud.ProviderClient{}, Endpoint: s.URL + "/"}
}

func told(steps []step) []string {
	out := []string{}
	for _, c := range changes(steps) {
		out = append(out, fmt.Sprintf("%s %s %s", c.Verb, c.Kind, c.Name))
	}
	return out
}

func TestVolumesThatARunLeft(t *testing.T) {
	t.Parallel()
	const name = "catamaran.umea.workload.wc-1"
	spec := inventory.OpenStackMachine{Image: "b", Volume: &inventory.OpenStackVolume{SizeGiB: 20, Type: "fast", AvailabilityZone: "az1"}}
	for what, c := range map[string]struct {
		change func(v *volumes.Volume)
		reuse  bool
	}{
		"as it is asked for": {func(*volumes.Volume) {}, true},
		"without our mark, and the cloud says what is in it": {func(v *volumes.Volume) {
			v.Metadata, v.VolumeImageMetadata = nil, map[string]string{"image_id": "id-b"}
		}, true},
		"another image":            {func(v *volumes.Volume) { v.Metadata[markImage] = "id-a" }, false},
		"nobody knows what":        {func(v *volumes.Volume) { v.Metadata = nil }, false},
		"another type":             {func(v *volumes.Volume) { v.VolumeType = "slow" }, false},
		"another zone":             {func(v *volumes.Volume) { v.AvailabilityZone = "az2" }, false},
		"another size":             {func(v *volumes.Volume) { v.Size = 10 }, false},
		"one that could not begin": {func(v *volumes.Volume) { v.Status = "error" }, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			v := volumes.Volume{ID: "v1", Name: name, Status: "available", Size: 20, VolumeType: "fast", AvailabilityZone: "az1", Metadata: map[string]string{markImage: "id-b"}}
			c.change(&v)
			j := jobWith(t, spec, inventory.Node{Name: "wc-1", Role: inventory.Worker})
			j.world.images = []images.Image{{ID: "id-a", Name: "a", Status: images.ImageStatusActive}, {ID: "id-b", Name: "b", Status: images.ImageStatusActive}}
			j.volumes = map[string]*volumes.Volume{name: &v}
			steps, err := j.planVolumes(j.made())
			require.NoError(t, err)
			if c.reuse {
				assert.Empty(t, told(steps))
				assert.Equal(t, "v1", j.volumeOf["wc-1"])
			} else {
				assert.Equal(t, []string{"delete volume " + name, "create volume " + name}, told(steps))
			}
		})
	}
}

func TestVolumeOfALostAnswer(t *testing.T) {
	t.Parallel()
	j := jobWith(t, inventory.OpenStackMachine{})
	ours := func(id, status, node, image string) volumes.Volume {
		m := j.names.metadata(&inventory.Node{Name: node})
		m[markImage] = image
		return volumes.Volume{ID: id, Status: status, Metadata: m}
	}
	all := []volumes.Volume{
		{ID: "a stranger's", Status: "available"}, ours("going", "deleting", "wc-1", "b"), ours("broken", "error", "wc-1", "b"),
		ours("stuck", "error_deleting", "wc-1", "b"), ours("old", "available", "wc-1", "a"), ours("other", "available", "wc-2", "b"),
	}
	assert.Nil(t, j.madeVolume(all, "wc-1", "b"))
	got := j.madeVolume(append(all, ours("new", "creating", "wc-1", "b")), "wc-1", "b")
	require.NotNil(t, got)
	assert.Equal(t, "new", got.ID)
}

func TestZonesOfVolumes(t *testing.T) {
	t.Parallel()
	j := jobWith(t, inventory.OpenStackMachine{})
	j.cloud.volume = service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"availabilityZoneInfo": [{"zoneName": "az1", "zoneState": {"available": true}}, {"zoneName": "az2", "zoneState": {"available": false}}]}`)
	})
	for _, c := range []struct {
		own, server, want string
	}{{"", "az1", "az1"}, {"", "az2", ""}, {"", "rack-7", ""}, {"az3", "az1", "az3"}, {"", "", ""}} {
		m := inventory.OpenStackMachine{Volume: &inventory.OpenStackVolume{AvailabilityZone: c.own}}
		if c.server != "" {
			m.AvailabilityZones = []string{c.server}
		}
		got, err := j.volumeZone(t.Context(), &m)
		require.NoError(t, err)
		assert.Equal(t, c.want, got, "%+v", c)
	}
}
