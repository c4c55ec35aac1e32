package inventory

import (
	"os"
	"path/filepath"
)

// external checks a program of the site's own as far as that can be done without calling it.
func (v *validator) external(name ClusterName, c *Cluster) {
	o := c.Provider.External
	if o == nil {
		return
	}
	f := "clusters." + string(name) + ".provider.external.command"
	if len(o.Command) == 0 || o.Command[0] == "" {
		v.fail(f, "name the program and its arguments, one by one", "expected a program, found none")
		return
	}
	program := o.Command[0]
	if !v.files || !filepath.IsAbs(program) {
		return
	}
	st, err := os.Stat(program)
	switch {
	case err != nil:
		v.fail(f+"[0]", "", "%v", err)
	case st.IsDir():
		v.fail(f+"[0]", "", "%s is a folder, expected a program", program)
	case st.Mode().Perm()&0o111 == 0:
		v.fail(f+"[0]", "chmod +x it", "%s can not be run (mode %04o)", program, st.Mode().Perm())
	}
}
