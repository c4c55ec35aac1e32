package openstack

import (
	"strings"

	"github.com/catamaran-k8s/catamaran/inventory"
)

// names are how the resources of a cluster are called and marked. Everything that can bear a description says who it belongs to in
// one; servers and volumes say it in their metadata; server groups, which bear neither, by their name. A label holds neither dots nor
// colons, so the names of two sites, clusters or kinds never meet.
type names struct {
	site    string
	cluster inventory.ClusterName
}

// Metadata of servers and volumes.
const (
	markSite    = "catamaran-site"
	markCluster = "catamaran-cluster"
	markNode    = "catamaran-node"
	markRole    = "catamaran-role"
	markPool    = "catamaran-pool"
	markImage   = "catamaran-image"    // as the inventory named it when the machine was made
	markHostKey = "catamaran-host-key" // the public SSH host key, in authorized_keys format
	markAdopted = "catamaran-adopted"  // site.cluster.node; only on servers that somebody else made
	markPrefix  = "catamaran-"
)

// tag is on every server that is made here.
const tag = "catamaran"

func (n names) scope() string { return n.site + "." + string(n.cluster) }

// node is the name of a node's port and volume. Its server has the node's own name, by which the cloud controller manager finds it.
func (n names) node(node string) string { return "catamaran." + n.scope() + "." + node }

// part is the name of something that a whole cluster uses.
func (n names) part(part string) string { return "catamaran." + n.scope() + ":" + part }

// router and network are the site's: both clusters may be on them.
func (n names) router() string             { return "catamaran." + n.site }
func (n names) network(cidr string) string { return "catamaran." + n.site + ":" + cidr }

// mark is the description of what belongs to the cluster, markShared of what belongs to the site.
func (n names) mark() string       { return "made by catamaran for " + n.site + "/" + string(n.cluster) }
func (n names) markShared() string { return "made by catamaran for " + n.site }

// nodeMark is the description of a floating IP, which has no name.
func (n names) nodeMark(node string) string { return n.mark() + ": " + node }

// markedNode is the node of a floating IP, and whether it is ours.
func (n names) markedNode(description string) (string, bool) {
	return strings.CutPrefix(description, n.mark()+": ")
}

// nodeOf is the node that a port or a volume was made for.
func (n names) nodeOf(name string) (string, bool) {
	return strings.CutPrefix(name, n.node(""))
}

// owns tells whether metadata are those of a server or a volume of this cluster.
func (n names) owns(metadata map[string]string) bool {
	return metadata[markSite] == n.site && metadata[markCluster] == string(n.cluster)
}

func (n names) metadata(node *inventory.Node) map[string]string {
	m := map[string]string{markSite: n.site, markCluster: string(n.cluster), markNode: node.Name, markRole: string(node.Role)}
	if node.Pool != "" {
		m[markPool] = node.Pool
	}
	return m
}
