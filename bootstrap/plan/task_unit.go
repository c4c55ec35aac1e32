package plan

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/catamaran-k8s/catamaran/bootstrap/remote"
)

// unitTimeout bounds one script on one host. kubeadm's own waits end after 4 minutes each; a slow disk needs several.
const unitTimeout = 30 * time.Minute

// runUnit runs a script as a transient systemd unit on the node and turns a non-zero exit into an error that shows
// what the script said last.
func runUnit(ctx context.Context, env Env, node, name, script string, files map[string][]byte, log func(string)) error {
	res, err := remote.RunUnit(ctx, env.Host(node), remote.Unit{
		Name:    unitName(node, name),
		Script:  script,
		Files:   files,
		Timeout: unitTimeout,
	}, func(line string) { log(colour.ReplaceAllString(line, "")) })
	if err != nil {
		return err
	}
	if res.ExitCode != 0 {
		return fmt.Errorf("%s: %s ended with status %d: %s", node, name, res.ExitCode, lastLines(colour.ReplaceAllString(res.Output, ""), 12))
	}
	return nil
}

// colour matches terminal colours, which kubeadm's checks print even where there is no terminal.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// unitName is stable between runs, so that the next apply finds a unit that outlived this one.
func unitName(node, name string) string {
	return strings.ReplaceAll(node, ".", "-") + "-" + name
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
