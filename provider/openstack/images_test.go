package openstack

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

func TestAServerDoesNotNeedItsImageAgain(t *testing.T) {
	t.Parallel()
	active := images.ImageStatusActive
	listed := []images.Image{{ID: "id-b", Name: "b", Status: active}, {ID: "id-c", Name: "c", Status: active}, {ID: "id-c2", Name: "c", Status: active}}
	for what, c := range map[string]struct{ mark, is, want, says string }{
		"deleted":                 {"a", "id-a", "a", ""},
		"two of its name by now":  {"c", "id-c", "c", ""},
		"named by its ID":         {"a", "id-a", "id-a", ""},
		"named by its other name": {"id-b", "id-b", "b", ""},
		"another one":             {"a", "id-a", "b", "it was made from the image a, and the inventory says b"},
		"one that is not there":   {"a", "id-a", "x", "there is no image x"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			n := inventory.Node{Name: "wc-1", Role: inventory.Worker}
			j := jobWith(t, inventory.OpenStackMachine{Image: c.want, Flavor: "gone"}, n)
			j.world.images = listed
			s := servers.Server{
				Status: "ACTIVE", Flavor: map[string]any{"original_name": "gone"}, Image: map[string]any{"id": c.is},
				Metadata: j.names.metadata(&n), Tags: &[]string{tag},
			}
			s.Metadata[markImage] = c.mark
			steps, err := j.compareServer(&j.cluster.Nodes[0], &s)
			if c.says == "" {
				require.NoError(t, err)
				assert.Empty(t, steps)
			} else {
				assert.ErrorContains(t, err, c.says)
			}
		})
	}
}

func TestImagesThatNoListShows(t *testing.T) {
	t.Parallel()
	const hidden, missing = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
	var asked []string
	j := jobWith(t, inventory.OpenStackMachine{Image: "b"},
		inventory.Node{Name: "wc-1"}, inventory.Node{Name: "wc-2", OpenStack: &inventory.OpenStackMachine{Image: hidden}},
		inventory.Node{Name: "wc-3", OpenStack: &inventory.OpenStackMachine{Image: hidden}}, inventory.Node{Name: "wc-4", OpenStack: &inventory.OpenStackMachine{Image: missing}})
	j.cloud.image = service(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/images"):
			_, _ = fmt.Fprint(w, `{"images": [{"id": "id-b", "name": "b", "status": "active"}]}`)
		case strings.HasSuffix(r.URL.Path, hidden):
			_, _ = fmt.Fprintf(w, `{"id": "%s", "name": "h", "status": "active"}`, hidden)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	require.NoError(t, j.listImages(t.Context(), j.world))
	assert.Len(t, asked, 3, "one request for each, however many want it: %v", asked)
	image, err := j.findImage(&j.cluster.Nodes[1], hidden)
	require.NoError(t, err)
	assert.Equal(t, "h", image.Name)
	_, err = j.findImage(&j.cluster.Nodes[3], missing)
	assert.ErrorContains(t, err, "there is no image "+missing)
}
