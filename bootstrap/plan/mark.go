package plan

import (
	"encoding/json"

	"github.com/catamaran-k8s/catamaran/bootstrap/host"
	"github.com/catamaran-k8s/catamaran/inventory"
)

// memberMark is what memberFile says: whose node a machine is.
type memberMark struct {
	Site    string                `json:"site"`
	Cluster inventory.ClusterName `json:"cluster"`
	Node    string                `json:"node"`
	Role    inventory.Role        `json:"role"`
}

func (m memberMark) text() string {
	data, _ := json.Marshal(m) // strings always marshal
	return string(data) + "\n"
}

// readMark reads a machine's mark; ok is false where there is none.
func readMark(f *host.Facts) (memberMark, bool) {
	var m memberMark
	if !has(f, memberFile) || json.Unmarshal([]byte(f.Files[memberFile].Content), &m) != nil {
		return m, false
	}
	return m, true
}
