package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
)

// watch looks at the command line of every program that is started, on the machines too where they are containers on this
// one, until stop is called, and returns the command lines that showed a canary. The kernel tells of each start: looking at
// all processes again and again took a quarter of two processors, and missed the short ones.
func (c *canaries) watch(t *testing.T) (stop func() []string) {
	t.Helper()
	starts, err := programStarts()
	require.NoError(t, err, "the kernel does not tell of processes: it needs CONFIG_PROC_EVENTS and root")
	end, done := make(chan struct{}), make(chan []string)
	go func() {
		leaks := c.running()
		for {
			select {
			case <-end:
				close(starts.done)
				done <- leaks
				return
			case e, ok := <-starts.events:
				if ok {
					if e.What == netlink.PROC_EVENT_EXEC {
						leaks = append(leaks, c.commandLine(fmt.Sprintf("/proc/%d/cmdline", e.Msg.Tgid()))...)
					}
					continue
				}
				// more events than the socket holds: what was missed is looked for among all processes
				if starts, err = programStarts(); err != nil {
					<-end
					done <- append(leaks, fmt.Sprintf("the kernel does not tell of processes any more: %v", err))
					return
				}
				leaks = append(leaks, c.running()...)
			}
		}
	}()
	return func() []string { close(end); return <-done }
}

// eventStream is the kernel's news of processes; events is closed when it breaks, done ends it.
type eventStream struct {
	events chan netlink.ProcEvent
	done   chan struct{}
}

func programStarts() (*eventStream, error) {
	s := &eventStream{events: make(chan netlink.ProcEvent, 4096), done: make(chan struct{})}
	broken := make(chan error, 1) // why is of no interest: the channel of events is closed with it
	return s, netlink.ProcEventMonitor(s.events, s.done, broken)
}

// running looks at the processes that run now.
func (c *canaries) running() []string {
	var leaks []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, f := range files {
		leaks = append(leaks, c.commandLine(f)...)
	}
	return leaks
}

func (c *canaries) commandLine(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // it ended meanwhile
	}
	var leaks []string
	for _, name := range c.find(data) {
		leaks = append(leaks, fmt.Sprintf("%s in %s: %.80s", name, file, bytes.ReplaceAll(data, []byte{0}, []byte(" "))))
	}
	return leaks
}
