package vsphere

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"sigs.k8s.io/yaml"
)

// guestinfo is what a virtual machine tells the cloud-init in it: the data source "VMware" of cloud-init reads the same keys.
type guestinfo struct {
	// Hostname is that of the metadata; empty where they name none.
	Hostname string
	// Address is the first static one; not valid where the guest asks DHCP.
	Address netip.Prefix
	// Gateway leads out; not valid without one.
	Gateway netip.Addr
	// UserData is the cloud-config.
	UserData []byte
	// Cleanup are what cloud-init overwrites once it has read it: userdata, vendordata.
	Cleanup []string
}

// metadata is the part of guestinfo.metadata that a lab host heeds: cloud-init's network config, version 2.
type metadata struct {
	LocalHostname string          `json:"local-hostname"`
	Hostname      string          `json:"hostname"`
	Network       json.RawMessage `json:"network"`
	// NetworkEncoding says how Network is encoded where it is a text.
	NetworkEncoding string   `json:"network.encoding"`
	Cleanup         []string `json:"cleanup-guestinfo"`
}

type networkConfig struct {
	Ethernets map[string]struct {
		Addresses []string `json:"addresses"`
		DHCP4     bool     `json:"dhcp4"`
		Gateway4  string   `json:"gateway4"`
		Routes    []struct {
			To  string `json:"to"`
			Via string `json:"via"`
		} `json:"routes"`
	} `json:"ethernets"`
}

// readGuestinfo reads a virtual machine's extra configuration.
func readGuestinfo(extra map[string]string) (guestinfo, error) {
	var out guestinfo
	var err error
	if out.UserData, err = decode(extra["guestinfo.userdata"], extra["guestinfo.userdata.encoding"]); err != nil {
		return out, fmt.Errorf("guestinfo.userdata: %w", err)
	}
	text, err := decode(extra["guestinfo.metadata"], extra["guestinfo.metadata.encoding"])
	if err != nil {
		return out, fmt.Errorf("guestinfo.metadata: %w", err)
	}
	var m metadata
	if err := yaml.Unmarshal(text, &m); err != nil {
		return out, fmt.Errorf("guestinfo.metadata: %w", err)
	}
	out.Hostname, out.Cleanup = m.LocalHostname, m.Cleanup
	if out.Hostname == "" {
		out.Hostname = m.Hostname
	}
	if len(m.Network) == 0 {
		return out, nil
	}
	if err := out.network(m); err != nil {
		return out, fmt.Errorf("guestinfo.metadata: network: %w", err)
	}
	return out, nil
}

func (g *guestinfo) network(m metadata) error {
	text := []byte(m.Network)
	var encoded string
	if json.Unmarshal(m.Network, &encoded) == nil { // a text, not a mapping
		var err error
		if text, err = decode(encoded, m.NetworkEncoding); err != nil {
			return err
		}
	}
	// both {network: {config: ...}} and the config itself are in use
	var wrapped struct {
		Config  *networkConfig `json:"config"`
		Network *networkConfig `json:"network"`
		networkConfig
	}
	if err := yaml.Unmarshal(text, &wrapped); err != nil {
		return err
	}
	c := wrapped.networkConfig
	for _, inner := range []*networkConfig{wrapped.Config, wrapped.Network} {
		if inner != nil {
			c = *inner
		}
	}
	if len(c.Ethernets) != 1 {
		return fmt.Errorf("%d ethernets: a lab host has one", len(c.Ethernets))
	}
	for _, e := range c.Ethernets {
		if len(e.Addresses) == 0 {
			if !e.DHCP4 {
				return errors.New("neither an address nor dhcp4: nobody would reach it")
			}
			continue
		}
		var err error
		if g.Address, err = netip.ParsePrefix(e.Addresses[0]); err != nil {
			return err
		}
		via := e.Gateway4
		for _, r := range e.Routes {
			if r.To == "default" || r.To == "0.0.0.0/0" {
				via = r.Via
			}
		}
		if via != "" {
			if g.Gateway, err = netip.ParseAddr(via); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode undoes what guestinfo's encodings do: base64 (or b64), gzip+base64 (or gz+b64), or nothing.
func decode(text, encoding string) ([]byte, error) {
	packed := false
	switch encoding {
	case "":
		return []byte(text), nil
	case "base64", "b64":
	case "gzip+base64", "gz+b64":
		packed = true
	default:
		return nil, fmt.Errorf("the encoding %q: expected base64 or gzip+base64", encoding)
	}
	data, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || !packed {
		return data, err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
