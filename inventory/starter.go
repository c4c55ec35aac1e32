package inventory

import (
	"bytes"
	_ "embed" // the template
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed starter.yaml.tmpl
var starter string

// StarterOptions are what a starter can be asked for.
type StarterOptions struct {
	Name          string // of the site
	ControlPlanes int    // of each cluster, 1 to 9
	Workers       int    // of each cluster, 0 to 99
}

// NewestTested is the Kubernetes version that a new inventory asks for.
const NewestTested = "1.37.2"

// Starter is a commented inventory to begin with. Its addresses are of the documentation's range (RFC 5737); it loads as
// soon as the key file that it names is there.
func Starter(o StarterOptions) ([]byte, error) {
	if why := rules["label"].refuse(o.Name); why != "" {
		return nil, fmt.Errorf("the site's name: %s", why)
	}
	if o.ControlPlanes < 1 || o.ControlPlanes > 9 || o.Workers < 0 || o.Workers > 99 {
		return nil, fmt.Errorf("expected 1 to 9 control planes and 0 to 99 workers, found %d and %d", o.ControlPlanes, o.Workers)
	}
	type node struct{ Name, Role, Address string }
	type cluster struct {
		Name, Title, VIP, Pods, Services string
		Nodes                            []node
	}
	clusters := []cluster{
		{"service", "The service cluster keeps the evidence: logs, metrics, alerts.", "192.0.2.10", "10.100.0.0/16", "10.101.0.0/16", nil},
		{"workload", "The workload cluster runs the applications.", "198.51.100.10", "10.102.0.0/16", "10.103.0.0/16", nil},
	}
	for i, network := range []string{"192.0.2.", "198.51.100."} {
		prefix, c := []string{"sc", "wc"}[i], &clusters[i]
		for j := range o.ControlPlanes {
			c.Nodes = append(c.Nodes, node{fmt.Sprintf("%s-%d", prefix, j+1), string(ControlPlane), fmt.Sprint(network, 11+j)})
		}
		for j := range o.Workers {
			c.Nodes = append(c.Nodes, node{fmt.Sprintf("%s-worker-%d", prefix, j+1), string(Worker), fmt.Sprint(network, 21+j)})
		}
	}
	t, err := template.New("starter").Parse(starter)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"APIVersion": APIVersion, "Kind": Kind, "Name": o.Name, "Version": NewestTested, "Oldest": oldestMinor, "Newest": newestMinor,
		"Clusters": clusters, "Many": o.ControlPlanes > 1,
	})
	return out.Bytes(), err
}

// WriteNew writes a file that must not be there yet, whole or not at all.
func WriteNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		if err = os.Link(f.Name(), path); errors.Is(err, os.ErrExist) { // unlike a rename, a link never replaces
			err = fmt.Errorf("%s is there already and is left as it is: move it away, or name another file", path)
		}
	}
	return errors.Join(err, os.Remove(f.Name()))
}
