package bundle

import "fmt"

// Needs is what a site installs from its bundle. An empty Arch or Kubernetes fits every bundle.
type Needs struct {
	Arch       string // GOARCH
	Kubernetes string // without "v"
	Files      []string
	Images     []string // whole references
	Charts     []string
}

// Missing says in words what a site needs and the bundle lacks; empty: it has all of it.
func (m Manifest) Missing(n Needs) []string {
	var out []string
	if n.Arch != "" && n.Arch != m.Arch {
		out = append(out, fmt.Sprintf("architecture %s (the bundle is for %s)", n.Arch, m.Arch))
	}
	if n.Kubernetes != "" && n.Kubernetes != m.Kubernetes {
		out = append(out, fmt.Sprintf("Kubernetes %s (the bundle has %s)", n.Kubernetes, m.Kubernetes))
	}
	images := make([]string, len(m.Images))
	for i, x := range m.Images {
		images[i] = x.Ref
	}
	for _, k := range []struct {
		what       string
		need, have []string
	}{
		{"file", n.Files, names(m.Files)},
		{"image", n.Images, images},
		{"chart", n.Charts, names(m.Charts)},
	} {
		have := make(map[string]bool, len(k.have))
		for _, x := range k.have {
			have[x] = true
		}
		for _, x := range k.need {
			if !have[x] {
				out = append(out, k.what+" "+x)
				have[x] = true // said once
			}
		}
	}
	return out
}

// Missing says what a bundle of this specification would lack, before it is built.
func (s Specification) Missing(n Needs) []string {
	m := Manifest{Arch: s.Arch, Kubernetes: s.Kubernetes}
	for _, f := range s.Files {
		m.Files = append(m.Files, File{Name: f.Name})
	}
	for _, c := range s.Charts {
		m.Charts = append(m.Charts, File{Name: c.Name})
	}
	for _, i := range s.Images {
		m.Images = append(m.Images, Image{Ref: i.Ref})
	}
	return m.Missing(n)
}

func names(files []File) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = f.Name
	}
	return out
}
