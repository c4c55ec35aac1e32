package inventory

import (
	"reflect"
	"strconv"
	"strings"
)

// Pool is a number of nodes that are alike. Its nodes are named NAME-1 to NAME-count. A smaller count takes the nodes with the
// highest numbers away: they are drained, reset and, where a provider made their machines, deleted.
type Pool struct {
	// Name is an RFC 1123 label; it is unique in the site.
	Name string `json:"name" check:"required,label"`
	Role Role   `json:"role" check:"required,role"`
	// Count is how many nodes there are, 0 to 1000.
	Count  int               `json:"count" check:"required,count"`
	SSH    *SSH              `json:"ssh,omitempty"`
	Labels map[string]string `json:"labels,omitzero" check:"key=labelKey,each=labelValue"`
	Taints *[]Taint          `json:"taints,omitempty"`
	// OpenStack and VSphere override single fields of the provider's machine defaults, for this pool's nodes.
	OpenStack *OpenStackMachine `json:"openstack,omitempty"`
	VSphere   *VSphereMachine   `json:"vsphere,omitempty"`
	// External is handed to an external provider as it is.
	External map[string]any `json:"external,omitzero"`
}

// maxNodes bounds the nodes of a cluster, as Kubernetes does.
const maxNodes = 5000

// expandPools appends the pools' nodes to the clusters' own. A pool whose name another one has is left out: the validator says so.
func (inv *Inventory) expandPools() {
	taken := map[string]bool{}
	for _, name := range inv.ClusterNames() {
		c := inv.Cluster(name)
		for i := range c.Pools {
			p := &c.Pools[i]
			if p.Name == "" || taken[p.Name] {
				continue
			}
			taken[p.Name] = true
			for number := 1; number <= p.Count && len(c.Nodes) < maxNodes; number++ {
				c.Nodes = append(c.Nodes, p.node(number))
			}
		}
	}
}

// node is one of the pool's nodes. It shares nothing with the others that can be changed.
func (p *Pool) node(number int) Node {
	return Node{
		Name: p.nodeName(number), Role: p.Role, State: Present, SSH: clone(p.SSH), Labels: clone(p.Labels), Taints: clone(p.Taints),
		OpenStack: clone(p.OpenStack), VSphere: clone(p.VSphere), External: clone(p.External), Pool: p.Name,
	}
}

func (p *Pool) nodeName(number int) string { return p.Name + "-" + strconv.Itoa(number) }

// place is where the node stands in its pool, from 0; of a listed node, where it stands among the listed ones.
func (c *Cluster) place(n *Node) int {
	if number, ok := strings.CutPrefix(n.Name, n.Pool+"-"); n.Pool != "" && ok {
		if i, err := strconv.Atoi(number); err == nil {
			return i - 1
		}
	}
	for i := range c.Nodes {
		if c.Nodes[i].Name == n.Name {
			return i
		}
	}
	return 0
}

// clone copies what an inventory is made of, all the way down.
func clone[T any](x T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	out.Set(cloned(reflect.ValueOf(&x).Elem()))
	return out.Interface().(T)
}

func cloned(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return v
		}
	default:
	}
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Pointer:
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(cloned(v.Elem()))
	case reflect.Interface:
		out.Set(cloned(v.Elem()))
	case reflect.Map:
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), cloned(it.Value()))
		}
	case reflect.Slice:
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(cloned(v.Index(i)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(cloned(v.Field(i)))
		}
	default:
		return v
	}
	return out
}
