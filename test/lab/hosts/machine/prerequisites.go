package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// programs that the lab runs, with the Debian packages that have them.
var programs = []struct{ program, pkg string }{
	{"mmdebstrap", "mmdebstrap"},
	{"systemd-nspawn", "systemd-container"},
	{"ssh", "openssh-client"},
}

// kernel features that hosts can not be without, with the module that brings them where they are not built in.
var kernel = []struct{ path, word, module string }{
	{"/proc/filesystems", "overlay", "overlay"},
	{"/proc/sys/net/bridge", "", "br_netfilter"},
}

// Lacks is what is missing on the machine.
type Lacks struct {
	Packages []string
	Modules  []string
}

// Error says what to do about it.
func (l *Lacks) Error() string {
	var what []string
	if len(l.Packages) > 0 {
		what = append(what, "apt-get install "+strings.Join(l.Packages, " "))
	}
	for _, m := range l.Modules {
		what = append(what, "modprobe "+m)
	}
	return fmt.Sprintf("the machine lacks what the lab needs: `%s`, or run `up` with --install", strings.Join(what, "; "))
}

// Check returns a *Lacks when something is missing that can be installed.
func Check() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces, mounts and control groups: run it as root")
	}
	var l Lacks
	for _, p := range programs {
		if _, err := exec.LookPath(p.program); err != nil {
			l.Packages = append(l.Packages, p.pkg)
		}
	}
	// without it mmdebstrap can not verify what it downloads; Debian always has it, its children not
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		l.Packages = append(l.Packages, "debian-archive-keyring")
	}
	for _, k := range kernel {
		if !has(k.path, k.word) {
			l.Modules = append(l.Modules, k.module)
		}
	}
	if len(l.Packages)+len(l.Modules) > 0 {
		return &l
	}
	return nil
}

// has says whether the path exists and, if a word is given, has it.
func has(path, word string) bool {
	if word == "" {
		_, err := os.Stat(path)
		return err == nil
	}
	data, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Fields(string(data)), word)
}

// Install brings what is missing.
func (l *Lacks) Install(ctx context.Context, out io.Writer) error {
	var commands [][]string
	if len(l.Packages) > 0 {
		commands = append(commands, []string{"apt-get", "update", "-q"},
			append([]string{"apt-get", "install", "-q", "-y", "--no-install-recommends"}, l.Packages...))
	}
	for _, m := range l.Modules {
		commands = append(commands, []string{"modprobe", m})
	}
	for _, c := range commands {
		cmd := exec.CommandContext(ctx, c[0], c[1:]...)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
	}
	return Check()
}
