package openstack

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// A server is not kept to be restored: its volume would stay attached.
func TestServersAreDeletedForGood(t *testing.T) {
	t.Parallel()
	const force, ordinary = `POST /servers/s1/action {"forceDelete":""}`, "DELETE /servers/s1 "
	for what, c := range map[string]struct {
		answers []int
		want    []string
		fails   bool
	}{
		"at once":                    {[]int{202}, []string{force}, false},
		"gone already":               {[]int{404}, []string{force}, false},
		"in the middle of something": {[]int{409, 409, 202}, []string{force, force, force}, false},
		"an answer that was lost":    {[]int{503, 404}, []string{force, force}, false},
		"a role that may not":        {[]int{403, 204}, []string{force, ordinary}, false},
		"refused":                    {[]int{400}, []string{force}, true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var asked []string
			j := jobWith(t, inventory.OpenStackMachine{})
			j.p.options.Poll = time.Millisecond
			j.cloud.compute = service(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				asked = append(asked, r.Method+" "+r.URL.Path+" "+string(body))
				w.WriteHeader(c.answers[min(len(asked), len(c.answers))-1])
			})
			err := j.deleteServer("s1")(t.Context())
			if c.fails {
				assert.Error(t, err)
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, c.want, asked)
		})
	}
}
