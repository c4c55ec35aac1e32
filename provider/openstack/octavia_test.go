// This is a STAND-IN for Octavia in memory, after its documented API. It proves nothing of Octavia itself.

package openstack

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
)

// octavia is the stand-in. While something of a load balancer is being done (PENDING_*), it refuses changes with 409.
type octavia struct {
	mu        sync.Mutex
	balancers map[string]object
	listeners map[string]object
	pools     map[string]object
	members   map[string][]object // by pool
	pending   map[string]int      // looks until something is done
	slow      int                 // looks that a change takes
	ports     []string            // made for a VIP that came without one
	seen      []string            // changes that were asked for
	forbidden bool                // to look
	refuse    int                 // changes that are refused though the load balancer is ACTIVE
	refuseAll bool                // to make one, as something that the driver can not do
	lose      string              // a change ("PUT pools") that is carried out, and whose answer is lost once
	next      int

	neutron, nova []object // what ports and servers are
}

type object = map[string]any

func newOctavia(t *testing.T) (*octavia, *gophercloud.ServiceClient) {
	o := &octavia{balancers: map[string]object{}, listeners: map[string]object{}, pools: map[string]object{}, members: map[string][]object{}, pending: map[string]int{}, slow: 2}
	s := httptest.NewServer(o)
	t.Cleanup(s.Close)
	client := &gophercloud.ProviderClient{HTTPClient: http.Client{Transport: &retry{base: s.Client().Transport, timeout: testTimeout, wait: noWait}}}
	return o, &gophercloud.ServiceClient{ProviderClient: client, Endpoint: s.URL + "/", ResourceBase: s.URL + "/"}
}

func (o *octavia) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := strings.Split(strings.TrimPrefix(strings.Trim(r.URL.Path, "/"), "lbaas/"), "/")
	var body object
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			say(w, http.StatusBadRequest, fault("no JSON"))
			return
		}
	}
	code, out := o.answer(r, path, body)
	if r.Method != http.MethodGet {
		o.seen = append(o.seen, fmt.Sprintf("%s %s: %d", r.Method, path[0], code))
		if o.lose == r.Method+" "+path[0] {
			o.lose = ""
			code, out = http.StatusGatewayTimeout, nil
		}
	}
	say(w, code, out)
}

func say(w http.ResponseWriter, code int, out object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if out != nil {
		_ = json.NewEncoder(w).Encode(out) // the client sees half an answer
	}
}

func fault(format string, args ...any) object {
	return object{"faultcode": "Client", "faultstring": fmt.Sprintf(format, args...)}
}

func (o *octavia) answer(r *http.Request, path []string, body object) (int, object) {
	switch {
	case path[0] == "ports":
		return 200, object{"ports": o.neutron}
	case path[0] == "servers":
		return 200, object{"servers": o.nova}
	case o.forbidden:
		return 403, fault("Policy does not allow this request to be performed.")
	case r.Method == http.MethodGet:
		return o.get(r, path)
	case r.Method == http.MethodPost && path[0] == "loadbalancers":
		return o.create(body["loadbalancer"].(object))
	case r.Method == http.MethodDelete && path[0] == "loadbalancers":
		return o.delete(path[1], r.URL.Query().Get("cascade") == "true")
	case r.Method == http.MethodPut:
		return o.put(path, body)
	}
	return 404, fault("no such path")
}

// look lets time go by.
func (o *octavia) look(id string) {
	if o.pending[id]--; o.pending[id] > 0 {
		return
	}
	delete(o.pending, id)
	b := o.balancers[id]
	switch b["provisioning_status"] {
	case statusDeleting:
		delete(o.balancers, id)
		for _, all := range []map[string]object{o.listeners, o.pools} {
			for key, v := range all {
				if v["balancer"] == id {
					delete(all, key)
					delete(o.members, key)
				}
			}
		}
	case "PENDING_CREATE", "PENDING_UPDATE":
		b["provisioning_status"] = statusActive
	}
}

func (o *octavia) get(r *http.Request, path []string) (int, object) {
	q := r.URL.Query()
	switch {
	case path[0] == "loadbalancers" && len(path) == 2:
		b := o.balancers[path[1]]
		if b == nil {
			return 404, fault("Load Balancer %s not found.", path[1])
		}
		defer o.look(path[1])
		return 200, object{"loadbalancer": clone(b)}
	case path[0] == "loadbalancers":
		all := []object{}
		for id, b := range o.balancers {
			if q.Get("name") == "" || b["name"] == q.Get("name") {
				all = append(all, clone(b))
				defer o.look(id)
			}
		}
		return 200, object{"loadbalancers": all}
	case path[0] == "pools" && len(path) == 3:
		if o.pools[path[1]] == nil {
			return 404, fault("Pool %s not found.", path[1])
		}
		return 200, object{"members": o.members[path[1]]}
	}
	from := map[string]map[string]object{"listeners": o.listeners, "pools": o.pools}[path[0]]
	all := []object{}
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if v := from[key]; v["balancer"] == q.Get("loadbalancer_id") && (q.Get("name") == "" || v["name"] == q.Get("name")) {
			all = append(all, v)
		}
	}
	return 200, object{path[0]: all}
}

func clone(v object) object {
	out := object{}
	for key, value := range v {
		out[key] = value
	}
	return out
}

func (o *octavia) id(kind string) string {
	o.next++
	return fmt.Sprintf("%s-%d", kind, o.next)
}

func (o *octavia) create(b object) (int, object) {
	id := o.id("lb")
	made := object{"id": id, "provisioning_status": "PENDING_CREATE"}
	for _, key := range []string{"name", "description", "provider", "vip_address", "vip_port_id", "vip_subnet_id"} {
		made[key] = b[key]
	}
	if b["vip_port_id"] == nil {
		o.ports = append(o.ports, "octavia-lb-"+id) // and it stays when the rest is refused
		made["vip_port_id"] = "octavia-lb-" + id
	} else {
		made["vip_address"] = "10.88.0.250"
	}
	if o.refuseAll {
		return 501, fault("Provider 'p' does not support a requested option.")
	}
	for _, l := range b["listeners"].([]any) {
		listener := l.(object)
		pool := listener["default_pool"].(object)
		if b["provider"] == providerOVN && (pool["lb_algorithm"] != "SOURCE_IP_PORT" || listener["allowed_cidrs"] != nil) {
			return 501, fault("Provider 'ovn' does not support a requested option.")
		}
		if b["provider"] != providerOVN && pool["lb_algorithm"] == "SOURCE_IP_PORT" {
			return 501, fault("Provider 'amphora' does not support a requested option.")
		}
		if !sameFamily(listener["allowed_cidrs"]) {
			return 400, fault("Validation failure: allowed_cidrs must be the same address family as the load balancer VIP address.")
		}
		lid, pid := o.id("listener"), o.id("pool")
		o.listeners[lid] = object{
			"id": lid, "balancer": id, "name": listener["name"], "protocol_port": listener["protocol_port"],
			"allowed_cidrs": listener["allowed_cidrs"], "timeout_client_data": listener["timeout_client_data"],
		}
		o.pools[pid] = object{"id": pid, "balancer": id, "name": pool["name"]}
		o.members[pid] = objects(pool["members"])
	}
	o.balancers[id], o.pending[id] = made, o.slow
	return 201, object{"loadbalancer": clone(made)}
}

func objects(v any) []object {
	out := []object{}
	list, _ := v.([]any)
	for _, m := range list {
		out = append(out, m.(object))
	}
	return out
}

func sameFamily(v any) bool {
	list, _ := v.([]any)
	for _, text := range list {
		if p, err := netip.ParsePrefix(text.(string)); err != nil || !p.Addr().Is4() {
			return false
		}
	}
	return true
}

func (o *octavia) delete(id string, cascade bool) (int, object) {
	b := o.balancers[id]
	switch {
	case b == nil:
		return 404, fault("Load Balancer %s not found.", id)
	case o.pending[id] > 0:
		return 409, fault("Invalid state %s of loadbalancer resource %s", b["provisioning_status"], id)
	case !cascade:
		return 400, fault("Cannot delete Load Balancer %s - it has children", id)
	}
	b["provisioning_status"], o.pending[id] = statusDeleting, o.slow
	return 204, nil
}

// put changes a listener, or the members of a pool as a whole.
func (o *octavia) put(path []string, body object) (int, object) {
	of := map[string]map[string]object{"listeners": o.listeners, "pools": o.pools}[path[0]][path[1]]
	if of == nil {
		return 404, fault("%s not found.", path[1])
	}
	id := of["balancer"].(string)
	b := o.balancers[id]
	if o.refuse > 0 || b["provisioning_status"] != statusActive {
		o.refuse = max(0, o.refuse-1)
		return 409, fault("Load Balancer %s is immutable and cannot be updated.", id)
	}
	out := object(nil)
	code := 202
	if path[0] == "pools" {
		o.members[path[1]] = objects(body["members"])
	} else {
		cidrs := body["listener"].(object)["allowed_cidrs"]
		if !sameFamily(cidrs) {
			return 400, fault("Validation failure: allowed_cidrs must be the same address family as the load balancer VIP address.")
		}
		of["allowed_cidrs"] = cidrs
		code, out = 200, object{"listener": of}
	}
	b["provisioning_status"], o.pending[id] = "PENDING_UPDATE", o.slow
	return code, out
}
