package vsphere

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const static = `instance-id: n1
local-hostname: n1
network:
  version: 2
  ethernets:
    nic:
      match: {name: "e*"}
      addresses: [10.84.0.11/23]
      routes: [{to: default, via: 10.84.0.1}]
`

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func gz(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(s))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b64(b.String())
}

func TestGuestinfo(t *testing.T) {
	n1 := guestinfo{Hostname: "n1", Address: netip.MustParsePrefix("10.84.0.11/23"), Gateway: netip.MustParseAddr("10.84.0.1"), UserData: []byte("#cloud-config\n")}
	asked := guestinfo{Hostname: "n2", UserData: []byte{}}
	for _, c := range []struct {
		name  string
		extra map[string]string
		want  guestinfo
		fails string
	}{
		{"base64", map[string]string{
			"guestinfo.metadata": b64(static), "guestinfo.metadata.encoding": "base64",
			"guestinfo.userdata": b64("#cloud-config\n"), "guestinfo.userdata.encoding": "base64"}, n1, ""},
		{"packed", map[string]string{
			"guestinfo.metadata": gz(t, static), "guestinfo.metadata.encoding": "gzip+base64",
			"guestinfo.userdata": gz(t, "#cloud-config\n"), "guestinfo.userdata.encoding": "gz+b64"}, n1, ""},
		{"JSON with a network that is encoded again", map[string]string{
			"guestinfo.metadata": `{"local-hostname": "n1", "network.encoding": "base64", "network": "` +
				b64(`{"config": {"version": 2, "ethernets": {"eth0": {"addresses": ["10.84.0.11/23"], "gateway4": "10.84.0.1"}}}}`) + `"}`,
			"guestinfo.userdata": "#cloud-config\n"}, n1, ""},
		{"DHCP", map[string]string{"guestinfo.metadata": `{"hostname": "n2", "network": {"ethernets": {"a": {"dhcp4": true}}}}`}, asked, ""},
		{"what is overwritten", map[string]string{"guestinfo.metadata": `{"hostname": "n2", "cleanup-guestinfo": ["userdata"]}`},
			guestinfo{Hostname: "n2", UserData: []byte{}, Cleanup: []string{"userdata"}}, ""},
		{"no network is DHCP", map[string]string{"guestinfo.metadata": `{"hostname": "n2"}`}, asked, ""},
		{"nothing", nil, guestinfo{UserData: []byte{}}, ""},
		{"no way to reach it", map[string]string{"guestinfo.metadata": `{"network": {"ethernets": {"a": {}}}}`}, guestinfo{}, "neither an address nor dhcp4"},
		{"two cards", map[string]string{"guestinfo.metadata": `{"network": {"ethernets": {"a": {}, "b": {}}}}`}, guestinfo{}, "2 ethernets"},
		{"an unknown encoding", map[string]string{"guestinfo.userdata": "x", "guestinfo.userdata.encoding": "zip"}, guestinfo{}, `guestinfo.userdata: the encoding "zip"`},
		{"broken base64", map[string]string{"guestinfo.metadata": "!", "guestinfo.metadata.encoding": "base64"}, guestinfo{}, "guestinfo.metadata"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readGuestinfo(c.extra)
			if c.fails != "" {
				assert.ErrorContains(t, err, c.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}
