package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Changes are what a machine lacks. They are data: the caller stages the files and runs Script.
type Changes struct {
	Files   []FileChange
	Sysctls map[string]string // to set now
	Modules []string          // to load now
	SwapOff bool
	Enable  []string // units to enable
	Start   []string // units to start
	Restart []string // units to restart because their file changed
	// Firewall is the stamp of the ruleset to load; FirewallOff takes ours away.
	Firewall    string
	FirewallOff bool
}

// FileChange is a file to write.
type FileChange struct {
	Path    string
	Mode    uint32
	Content string
	Before  string // what is there now, where it is known
	Exists  bool
	// AtStart says that the API server reads the file only when it starts.
	AtStart bool
}

// Unread are the files that a running API server can not have read as they must be: they differ, or were written after it
// started. Why says it of the first.
func Unread(want Node, f *Facts) (files []FileChange, why string) {
	for _, w := range want.Files {
		if !w.AtStart {
			continue
		}
		have, ok := f.Files[w.Path]
		reason := ""
		switch {
		case !same(w, have):
			reason = w.Path + " differs"
		case !f.APIServerStarted.IsZero() && f.Written[w.Path].After(f.APIServerStarted):
			reason = w.Path + " was written after the API server started"
		default:
			continue
		}
		if why == "" {
			why = reason
		}
		files = append(files, FileChange{Path: w.Path, Mode: w.Mode, Content: w.Content, Before: have.Content, Exists: ok, AtStart: true})
	}
	return files, why
}

func same(w WantedFile, have File) bool {
	return have.SHA256 == SHA256(w.Content) && sameMode(have.Mode, w.Mode)
}

// moduleAvailable is a module that can be loaded and is not.
const moduleAvailable = "available"

// Diff compares what must be with what is.
func Diff(want Node, f *Facts) Changes {
	c := Changes{Sysctls: map[string]string{}}
	restart := map[string]bool{}
	for _, w := range want.Files {
		have, ok := f.Files[w.Path]
		if ok && same(w, have) {
			continue
		}
		c.Files = append(c.Files, FileChange{Path: w.Path, Mode: w.Mode, Content: w.Content, Before: have.Content, Exists: ok, AtStart: w.AtStart})
		if w.Restart != "" && f.Units[w.Restart].Active == "active" {
			restart[w.Restart] = true
		}
	}
	for _, m := range want.Modules {
		if f.Modules[m] == moduleAvailable {
			c.Modules = append(c.Modules, m)
		}
	}
	for k, v := range want.Sysctls {
		// one that is not there may come with a module that is loaded first
		have, ok := f.Sysctls[k]
		if ok && have != sysctlValue(v) || !ok && len(c.Modules) > 0 {
			c.Sysctls[k] = v
		}
	}
	c.SwapOff = want.NoSwap && f.SwapActive
	for _, u := range want.Units {
		if f.Units[u].Enabled != "enabled" {
			c.Enable = append(c.Enable, u)
		}
	}
	for _, u := range want.Running {
		if f.Units[u].Active != "active" {
			c.Start = append(c.Start, u)
		}
	}
	for u := range restart {
		c.Restart = append(c.Restart, u)
	}
	sort.Strings(c.Restart)
	if want.Firewall != f.Firewall {
		c.Firewall, c.FirewallOff = want.Firewall, want.Firewall == ""
	}
	return c
}

// Empty says that nothing is lacking.
func (c Changes) Empty() bool {
	return len(c.Files)+len(c.Sysctls)+len(c.Modules)+len(c.Enable)+len(c.Start)+len(c.Restart) == 0 && !c.SwapOff && c.Firewall == "" && !c.FirewallOff
}

// Reason says in one line what differs.
func (c Changes) Reason() string {
	var parts []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(len(c.Files), "file differs", "files differ")
	add(len(c.Sysctls), "sysctl differs", "sysctls differ")
	add(len(c.Modules), "module is not loaded", "modules are not loaded")
	if c.SwapOff {
		parts = append(parts, "swap is on")
	}
	if c.Firewall != "" {
		parts = append(parts, "the firewall differs")
	}
	if c.FirewallOff {
		parts = append(parts, "the firewall is on")
	}
	add(len(c.Enable), "unit is not enabled", "units are not enabled")
	add(len(c.Start), "unit does not run", "units do not run")
	return strings.Join(parts, ", ")
}

// Script applies everything but the files, which are in place by then, and checks that it holds.
func (c Changes) Script() string {
	var b strings.Builder
	b.WriteString("set -eu\n")
	for _, m := range c.Modules {
		fmt.Fprintf(&b, "modprobe %s\n", quote(m))
	}
	for _, k := range sortedKeys(c.Sysctls) {
		p := quote("/proc/sys/" + strings.ReplaceAll(k, ".", "/"))
		fmt.Fprintf(&b, "[ ! -e %[1]s ] || echo %[2]s > %[1]s\n", p, quote(c.Sysctls[k]))
	}
	if c.SwapOff {
		b.WriteString("swapoff -a\nsed -i -E 's/^([^#].*[[:space:]]swap[[:space:]].*)$/# off for Kubernetes: \\1/' /etc/fstab\n[ \"$(wc -l < /proc/swaps)\" -le 1 ]\n")
	}
	b.WriteString("systemctl daemon-reload\n")
	if len(c.Enable) > 0 {
		fmt.Fprintf(&b, "systemctl enable --quiet %s\n", strings.Join(c.Enable, " "))
	}
	if len(c.Restart) > 0 {
		fmt.Fprintf(&b, "systemctl restart %s\n", strings.Join(c.Restart, " "))
	}
	if len(c.Start) > 0 {
		fmt.Fprintf(&b, "systemctl start %s\nsystemctl is-active --quiet %s\n", strings.Join(c.Start, " "), strings.Join(c.Start, " "))
	}
	switch {
	case c.Firewall != "":
		fmt.Fprintf(&b, "systemctl restart %s\nnft list chain %s %s > /dev/null\n", firewallUnit, FirewallTable, c.Firewall)
	case c.FirewallOff:
		b.WriteString(FirewallOff)
	}
	return b.String()
}

// FirewallOff is a script that takes our firewall away, also where there is none, and checks that it is gone.
const FirewallOff = "systemctl disable --now --quiet " + firewallUnit + " 2> /dev/null || true\n" +
	"rm -f " + firewallFile + " /etc/systemd/system/" + firewallUnit + "\n" +
	"systemctl daemon-reload\n" +
	"nft delete table " + FirewallTable + " 2> /dev/null || true\n" +
	"! nft list table " + FirewallTable + " > /dev/null 2>&1\n"

// quote makes one shell word.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// SHA256 is the hex digest of a text.
func SHA256(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func sameMode(have string, want uint32) bool {
	n, err := strconv.ParseUint(have, 8, 32)
	return err == nil && uint32(n) == want
}
