package vsphere

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	host := strings.TrimPrefix(c.front.URL, "https://")
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.front.Certificate().Raw}))
	known := host + " " + soap.ThumbprintSHA1(c.front.Certificate())
	for name, k := range map[string]struct {
		env     map[string]string
		vsphere func(*inventory.VSphere)
		says    string // empty: it signs in
	}{
		"thumbprint":                 {},
		"thumbprint with colons":     {vsphere: func(v *inventory.VSphere) { v.Thumbprint = strings.ToUpper(colons(v.Thumbprint)) }},
		"authority in a variable":    {env: map[string]string{"GOVC_TLS_CA_CERTS": file("ca.pem", authority)}, vsphere: unpinned},
		"authority in a file":        {vsphere: func(v *inventory.VSphere) { v.Thumbprint, v.CAFile = "", file("ca.pem", authority) }},
		"known hosts":                {env: map[string]string{"GOVC_TLS_KNOWN_HOSTS": file("known", known)}, vsphere: unpinned},
		"password from a file":       {env: map[string]string{"GOVC_PASSWORD": file("password", password+"\n")}},
		"user in the URL":            {env: map[string]string{"GOVC_URL": "https://lab%40vsphere.local:secret@" + host, "GOVC_USERNAME": "", "GOVC_PASSWORD": ""}},
		"server of the inventory":    {env: map[string]string{"GOVC_URL": ""}, vsphere: func(v *inventory.VSphere) { v.Server = host }},
		"no vCenter":                 {env: map[string]string{"GOVC_URL": ""}, says: "there is no vCenter: set GOVC_URL"},
		"no password":                {env: map[string]string{"GOVC_PASSWORD": ""}, says: "set GOVC_USERNAME and GOVC_PASSWORD"},
		"wrong password":             {env: map[string]string{"GOVC_PASSWORD": "wr0ng"}, says: "the vCenter refuses the user name or the password"},
		"http":                       {env: map[string]string{"GOVC_URL": "http://" + host}, says: "must be reached by https"},
		"wrong thumbprint":           {vsphere: func(v *inventory.VSphere) { v.Thumbprint = strings.Repeat("0", 64) }, says: "shows the thumbprint " + strings.ToUpper(c.thumbprint())},
		"unknown authority":          {vsphere: unpinned, says: "pin its certificate (thumbprint, GOVC_TLS_KNOWN_HOSTS)"},
		"insecure is not honoured":   {env: map[string]string{"GOVC_INSECURE": "1"}, vsphere: unpinned, says: "GOVC_INSECURE is not honoured"},
		"a URL that can not be read": {env: map[string]string{"GOVC_URL": "https://lab:s3cret@host:port"}, says: "GOVC_URL can not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane, vsphere: {vm: DC0_C0_RP0_VM1}}\n")
			if k.vsphere != nil {
				k.vsphere(r.Inventory.Clusters.Workload.Provider.VSphere)
			}
			p, err := c.with(k.env).Plan(t.Context(), r)
			if k.says == "" {
				require.NoError(t, err)
				assert.Len(t, p.Machines, 1)
				return
			}
			require.ErrorIs(t, err, provider.ErrPermanent)
			assert.ErrorContains(t, err, k.says)
			for _, secret := range []string{"wr0ng", "s3cret", password + "@"} {
				assert.NotContains(t, err.Error(), secret)
			}
		})
	}
}

func unpinned(v *inventory.VSphere) { v.Thumbprint = "" }

func colons(s string) string {
	var out []string
	for i := 0; i < len(s); i += 2 {
		out = append(out, s[i:i+2])
	}
	return strings.Join(out, ":")
}

func TestNamesThatAreNotThere(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	for field, k := range map[string]struct{ machine, says string }{
		"template":          {"template: DC0_C0_RP0_VM9", "there is no template DC0_C0_RP0_VM9; the nearest: /DC0/vm/DC0_C0_RP0_VM0"},
		"cluster":           {"cluster: DC0_C1", "there is no cluster DC0_C1; the nearest: /DC0/host/DC0_C0"},
		"resource pool":     {"resourcePool: k8s", "there is no resource pool k8s; the nearest: /DC0/host/DC0_C0/Resources"},
		"datastore":         {"datastore: LocalDS_9", "there is no datastore LocalDS_9; the nearest: /DC0/datastore/LocalDS_0, /DC0/datastore/LocalDS_1"},
		"network":           {"network: VM Netwrk", "there is no network VM Netwrk; the nearest: /DC0/network/VM Network"},
		"datastore cluster": {"datastoreCluster: DC0_POD9", "there is no datastore cluster DC0_POD9; the nearest: /DC0/datastore/DC0_POD0"},
		"adopted":           {"vm: DC0_C0_RP0_VM9", "there is no virtual machine DC0_C0_RP0_VM9"},
		"tag":               {"tags: [\"team:infra\"]", "there is no tag category team"},
		"attribute":         {"attributes: {owner: infra}", "there is no custom attribute owner"},
		"snapshot":          {"template: DC0_C0_RP0_VM2, linkedClone: true", "has no snapshot, which a linked clone shares"},
		"smaller disk":      {"diskGiB: 1", "a disk can only grow"},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			r := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane, vsphere: {"+k.machine+"}}\n")
			before := c.Resources(t)
			_, err := c.with(nil).Plan(t.Context(), r)
			require.ErrorIs(t, err, provider.ErrPermanent)
			assert.ErrorContains(t, err, k.says)
			_, err = c.with(nil).Ensure(t.Context(), r, nil)
			require.ErrorIs(t, err, provider.ErrPermanent)
			assert.Equal(t, before, c.Resources(t), "it is seen before anything is made")
		})
	}
}

func TestPlanTakesTheSameCallsForMoreMachines(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	calls := func(n string) int {
		r := c.site(t, strings.Replace(spreadPool, "count: 2", "count: "+n, 1))
		require.NoError(t, ensured(c, r))
		c.counted()
		_, err := c.with(nil).Plan(t.Context(), r)
		require.NoError(t, err)
		return len(c.counted())
	}
	few := calls("2")
	assert.Equal(t, few, calls("20"))
	assert.Less(t, few, 25)
}
