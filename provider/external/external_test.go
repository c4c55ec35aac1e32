package external_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/catamaran-k8s/catamaran/inventory"
	"github.com/catamaran-k8s/catamaran/provider"
	"github.com/catamaran-k8s/catamaran/provider/external"
	"github.com/catamaran-k8s/catamaran/provider/providertest"
)

var standin string // the built program; TestMain has no other way to hand it over

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "catamaran-external-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	standin = filepath.Join(dir, "standin")
	if out, err := exec.Command("go", "build", "-o", standin, "./standin").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the stand-in: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// patience is for a busy machine: each call is a process.
const patience = 2 * time.Minute

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{Creates: true, Patience: patience, World: func(t testing.TB) providertest.World { return newWorld(t) }})
}

// world is the folder that the stand-in's platform is.
type world struct {
	dir, socket string
	mu          sync.Mutex
	watch       func()
	killAt      int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), watch: func() {}}
	short, err := os.MkdirTemp("", "w") //nolint:usetesting // a socket's path is short
	require.NoError(t, err)
	w.socket = filepath.Join(short, "s")
	l, err := net.Listen("unix", w.socket)
	require.NoError(t, err)
	var asked sync.WaitGroup
	asked.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Go(func() {
				w.mu.Lock()
				f := w.watch
				w.mu.Unlock()
				f()
				_, _ = c.Write([]byte{1}) // who asked may be gone
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		asked.Wait()
		_ = os.RemoveAll(short)
	})
	return w
}

func (w *world) Provider(testing.TB) provider.Provider { return external.New(external.Options{}) }

func (w *world) Watch(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watch = f
}

func (w *world) Break(t testing.TB) bool {
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "broken"), nil, 0o600))
	return true
}

func (w *world) Resources(t testing.TB) []string {
	paths, err := filepath.Glob(filepath.Join(w.dir, "[dm]*.*"))
	require.NoError(t, err)
	out := []string{}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		require.NoError(t, err)
		var r struct{ ID, Kind, Name string }
		require.NoError(t, json.Unmarshal(data, &r))
		out = append(out, r.Kind+" "+r.Name+" "+r.ID)
	}
	sort.Strings(out)
	return out
}

func (w *world) Spoil(_ testing.TB, r provider.Request) (provider.Request, bool) {
	nodes := r.Inventory.Cluster(r.Cluster).Nodes
	nodes[len(nodes)-1].External = map[string]any{"flavor": "none"}
	return r, true
}

func (w *world) Request(t testing.TB, want providertest.Want) provider.Request {
	t.Helper()
	c := &inventory.Cluster{Provider: inventory.Provider{External: &inventory.External{
		Command: []string{standin}, Config: map[string]any{"world": w.dir, "notify": w.socket, "killAt": w.killAt},
	}}}
	for i := range want.Nodes {
		n := inventory.Node{Name: fmt.Sprintf("wc-%d", i), Role: inventory.Worker, State: inventory.Present}
		if i == 0 {
			n.Role = inventory.ControlPlane
		} else if i == want.Nodes-2 {
			n.State = inventory.Absent
		}
		c.Nodes = append(c.Nodes, n)
		if i < want.Adopted {
			w.place(t, n, i)
		}
	}
	return provider.Request{Inventory: &inventory.Inventory{
		Dir: t.TempDir(), Metadata: inventory.Metadata{Name: "umea"}, Clusters: inventory.Clusters{Workload: c},
	}, Cluster: inventory.Workload}
}

// place makes a machine as somebody else would, once.
func (w *world) place(t testing.TB, n inventory.Node, i int) {
	path := filepath.Join(w.dir, "machine."+n.Name)
	if _, err := os.Stat(path); err == nil {
		return
	}
	data, err := json.Marshal(map[string]string{"id": fmt.Sprintf("foreign-%d", i), "kind": "machine", "name": n.Name, "address": fmt.Sprintf("10.98.0.%d", i+1)})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

// The program is killed at every operation it does, before or after it; the next call goes on, and in the end the world is as an
// undisturbed call leaves it.
func TestKilledAtEveryOperation(t *testing.T) {
	t.Parallel()
	p := external.New(external.Options{})
	points := 0
	for point := 1; ; point++ {
		require.Less(t, point, 50)
		w := newWorld(t)
		w.killAt = point
		dying := w.Request(t, providertest.Want{Nodes: 4, Adopted: 1})
		_, err := p.Ensure(t.Context(), dying, nil)
		if err == nil {
			break
		}
		points++
		assert.ErrorContains(t, err, "signal: killed")
		assert.NotErrorIs(t, err, provider.ErrPermanent)
		w.killAt = 0
		r := w.Request(t, providertest.Want{Nodes: 4, Adopted: 1})
		_, err = p.Ensure(t.Context(), r, nil)
		require.NoError(t, err)
		assert.Len(t, w.Resources(t), 5, "one machine was there, two and their disks were made")
		assert.ErrorContains(t, p.Destroy(t.Context(), dying, nil), "signal: killed", "at operation %d of destroy", point)
		require.NoError(t, p.Destroy(t.Context(), r, nil))
		assert.Equal(t, []string{"machine wc-0 foreign-0"}, w.Resources(t))
	}
	assert.Equal(t, 4, points, "two disks and two machines")
}

// script is a program in a few lines of shell.
func script(t *testing.T, text string) provider.Request {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) // the shell reads it: a file just written may be busy
	c := &inventory.Cluster{
		Provider: inventory.Provider{External: &inventory.External{Command: []string{"/bin/sh", path}, Config: map[string]any{"pool": "blue"}}},
		Nodes:    []inventory.Node{{Name: "wc-0", Role: inventory.ControlPlane, State: inventory.Present}, {Name: "wc-1", Role: inventory.Worker, State: inventory.Absent}},
	}
	return provider.Request{Inventory: &inventory.Inventory{Dir: dir, Metadata: inventory.Metadata{Name: "umea"}, Clusters: inventory.Clusters{Workload: c}}, Cluster: inventory.Workload}
}

const whole = `{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1"}]}}`

func TestWhatAProgramSaysWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, want string
		passing    bool
	}{
		"nothing":               {"exit 0", "after 0 lines it ended well, without a result", false},
		"no JSON":               {"echo hello", "line 1: invalid character 'h'", false},
		"an empty line":         {"echo; echo '" + whole + "'", "line 1: it is empty", false},
		"two things":            {`echo '{"log": "x", "result": {}}'`, "line 1: it says 2 things", false},
		"no thing":              {`echo '{}'`, "line 1: it says 0 things", false},
		"a misspelt field":      {`echo '{"log": "x"}'; echo '{"result": {"machines": [{"name": "wc-0", "adr": "10.0.0.1"}]}}'`, `line 2: json: unknown field "adr"`, false},
		"two objects":           {`echo '{"log": "x"} {"log": "y"}'`, "something follows the object", false},
		"after the result":      {"echo '" + whole + "'; echo '{\"log\": \"x\"}'", "line 2 comes after the result", false},
		"an unknown verb":       {`echo '{"change": {"verb": "make", "kind": "vm", "name": "a", "reason": "b"}}'`, `verb is "make"`, false},
		"half a change":         {`echo '{"change": {"verb": "create", "kind": "vm", "name": "a"}}'`, "needs a kind, a name and a reason", false},
		"an error unsaid":       {`echo '{"error": {}}'`, "the error has no message", false},
		"a machine too few":     {`echo '{"result": {}}'`, `machine "wc-0" is missing`, false},
		"a machine too many":    {`echo '{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1"}, {"name": "wc-9", "address": "10.0.0.2"}]}}'`, `there is no node "wc-9"`, false},
		"a machine twice":       {`echo '{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1"}, {"name": "wc-0", "address": "10.0.0.2"}]}}'`, `"wc-0" is there twice`, false},
		"no address":            {`echo '{"result": {"machines": [{"name": "wc-0"}]}}'`, `its address "" is no IP address`, false},
		"a name as an address":  {`echo '{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1", "sshAddress": "jump.example.org"}]}}'`, `its sshAddress "jump.example.org" is no IP address`, false},
		"another role":          {`echo '{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1", "role": "worker"}]}}'`, "is a worker, in the inventory a control-plane", false},
		"a strange host key":    {`echo '{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.1", "hostKey": "abc"}]}}'`, "its hostKey is neither", false},
		"too long a line":       {`head -c 9000000 /dev/zero | tr '\0' x`, "line 1 is longer than 8 MiB", false},
		"an error":              {`echo '{"error": {"message": "wc-0: the quota is used up", "permanent": true}}'; exit 1`, "ensure: wc-0: the quota is used up", false},
		"a passing error":       {`echo '{"error": {"message": "the platform is busy"}}'; echo details >&2`, "ensure: the platform is busy; it said:\ndetails", true},
		"a crash":               {"echo begins >&2; echo 'boom at line 7' >&2; exit 3", "ended with exit status 3 and told neither a result nor an error; it said:\nbegins\nboom at line 7", true},
		"killed":                {"kill -9 $$", "signal: killed", true},
		"half a line":           {`printf '{"result": {"mach'; kill -9 $$`, "ends in the middle of line 1", true},
		"a result and a status": {"echo '" + whole + "'; exit 4", "told a result and then ended with exit status 4", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := external.New(external.Options{}).Ensure(t.Context(), script(t, c.text), nil)
			require.ErrorContains(t, err, c.want)
			assert.Equal(t, c.passing, !errors.Is(err, provider.ErrPermanent), "%v", err)
		})
	}
}

func TestAPlanThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ result, want string }{
		"surplus in the inventory": {`{"surplus": [{"name": "wc-1", "role": "worker"}]}`, `machine "wc-1" is surplus, and in the inventory`},
		"surplus without a role":   {`{"surplus": [{"name": "wc-9"}]}`, `has the role ""`},
		"surplus of others":        {`{"surplus": [{"name": "wc-9", "role": "worker", "adopted": true}]}`, "is surplus and adopted"},
		"surplus twice":            {`{"surplus": [{"name": "wc-9", "role": "worker"}, {"name": "wc-9", "role": "worker"}]}`, "is surplus twice"},
		"half a change":            {`{"changes": [{"verb": "create"}]}`, "needs a kind, a name and a reason"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := external.New(external.Options{}).Plan(t.Context(), script(t, "echo '{\"result\": "+c.result+"}'"))
			require.ErrorContains(t, err, c.want)
			assert.ErrorIs(t, err, provider.ErrPermanent)
		})
	}
	_, err := external.New(external.Options{}).Plan(t.Context(), script(t, `echo '{"change": {"verb": "create", "kind": "vm", "name": "a", "reason": "b"}}'`))
	assert.ErrorContains(t, err, "a change was made by plan, which only looks")
}

// What the inventory asks for is what the machine must have.
func TestAddressesAndKeysOfTheInventory(t *testing.T) {
	t.Parallel()
	ask := func(answer string) ([]provider.Machine, error) {
		r := script(t, "echo '"+answer+"'")
		n := &r.Inventory.Clusters.Workload.Nodes[0]
		n.Address, n.HostKey = "10.0.0.7", "SHA256:pinned"
		return external.New(external.Options{}).Ensure(t.Context(), r, nil)
	}
	machines, err := ask(`{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.7"}]}}`)
	require.NoError(t, err)
	assert.Equal(t, []provider.Machine{{Cluster: "workload", Name: "wc-0", Role: "control-plane", Address: "10.0.0.7", HostKey: "SHA256:pinned"}}, machines)
	_, err = ask(`{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.8"}]}}`)
	assert.ErrorContains(t, err, "the inventory asks for 10.0.0.7")
	_, err = ask(`{"result": {"machines": [{"name": "wc-0", "address": "10.0.0.7", "hostKey": "SHA256:other"}]}}`)
	assert.ErrorContains(t, err, "the inventory pins SHA256:pinned")
}

func TestAProgramThatIsNotThere(t *testing.T) {
	t.Parallel()
	r := script(t, "")
	r.Inventory.Clusters.Workload.Provider.External.Command = []string{"/no/such/program"}
	_, err := external.New(external.Options{}).Plan(t.Context(), r)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "external: /no/such/program: plan: the program can not be started")
	r.Inventory.Clusters.Workload.Provider = inventory.Provider{}
	_, err = external.New(external.Options{}).Plan(t.Context(), r)
	assert.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "names no program")
}

// The request is what the README says, and goes nowhere else than to the standard input.
func TestTheRequest(t *testing.T) {
	t.Parallel()
	r := script(t, `cat > request; tr '\0' '\n' < /proc/self/environ > environment; tr '\0' '\n' < /proc/$$/cmdline > arguments; echo '{"result": {}}'`)
	public := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	require.NoError(t, os.WriteFile(filepath.Join(r.Inventory.Dir, "key.pub"), []byte(public+" me\n"), 0o600))
	r.Inventory.SSH = inventory.SSH{User: "ops", KeyFile: filepath.Join(r.Inventory.Dir, "key")}
	r.Inventory.Clusters.Workload.Nodes[0].External = map[string]any{"flavor": "large"}
	r.Inventory.Clusters.Workload.Nodes[0].Pool = "cp"
	r.Inventory.Clusters.Workload.Nodes[1].SSH = &inventory.SSH{User: "other"}
	require.NoError(t, external.New(external.Options{}).Retire(t.Context(), r, []string{"wc-9"}, nil))
	text, err := os.ReadFile(filepath.Join(r.Inventory.Dir, "request"))
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"apiVersion": "catamaran/provider/v1alpha1", "call": "retire", "site": "umea", "cluster": "workload", "config": {"pool": "blue"},
		"ssh": {"user": "ops", "authorizedKeys": ["`+public+`"]},
		"nodes": [
			{"name": "wc-0", "role": "control-plane", "pool": "cp", "state": "present", "external": {"flavor": "large"}},
			{"name": "wc-1", "role": "worker", "state": "absent", "ssh": {"user": "other", "authorizedKeys": ["`+public+`"]}}
		],
		"machines": ["wc-9"]
	}`, string(text))
	for _, file := range []string{"environment", "arguments"} {
		text, err := os.ReadFile(filepath.Join(r.Inventory.Dir, file))
		require.NoError(t, err)
		assert.NotContains(t, string(text), "blue", file)
	}
}

// Without a key file and listed keys, a machine lets in whom the agent lets in.
func TestKeysOfTheAgent(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	keyring := agent.NewKeyring()
	require.NoError(t, keyring.Add(agent.AddedKey{PrivateKey: key}))
	public, err := ssh.NewPublicKey(key.Public())
	require.NoError(t, err)
	r := script(t, `cat > request; echo '{"result": {}}'`)
	socket := filepath.Join(r.Inventory.Dir, "agent")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = agent.ServeAgent(keyring, c) // until the client goes
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
	require.NoError(t, external.New(external.Options{}).Destroy(t.Context(), r, nil))
	text, err := os.ReadFile(filepath.Join(r.Inventory.Dir, "request"))
	require.NoError(t, err)
	assert.Contains(t, string(text), `"authorizedKeys":["`+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))+`"]`)
}

// A program that does not end when it is asked to is killed, with all that it started.
func TestAProgramThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	r := script(t, `trap '' TERM
sleep 4711 &
echo $! > child
echo '{"log": "hangs"}'
while :; do sleep 1; done`)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator pressed a key")
	p := external.New(external.Options{Grace: 500 * time.Millisecond, Log: func(l string) {
		assert.Equal(t, "hangs", l)
		cancel(cause)
	}})
	_, err := p.Ensure(ctx, r, nil)
	require.ErrorIs(t, err, cause)
	assert.NotErrorIs(t, err, provider.ErrPermanent)
	pid, err := os.ReadFile(filepath.Join(r.Inventory.Dir, "child"))
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		state, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat"))
		return err != nil || strings.Contains(string(state), ") Z ")
	}, patience, 20*time.Millisecond, "what it started still runs")
}

// What it says while it is stopped is shown, but is no word of its own about trying again.
func TestAProgramThatSaysHowItStopped(t *testing.T) {
	t.Parallel()
	r := script(t, `trap 'echo "{\"error\": {\"message\": \"stopped while wc-0 was made\", \"permanent\": true}}"; exit 1' TERM
echo '{"log": "waits"}'
while :; do sleep 0.1; done`)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := external.New(external.Options{Log: func(string) { cancel() }}).Ensure(ctx, r, nil)
	require.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "stopped while wc-0 was made")
}

// Somebody who is told of a change and takes his time loses nothing, and what a program leaves behind does not hold the call.
func TestASlowListenerAndAChildThatStays(t *testing.T) {
	t.Parallel()
	r := script(t, `sleep 4712 &
for i in 1 2 3 4 5; do echo "{\"change\": {\"verb\": \"create\", \"kind\": \"vm\", \"name\": \"vm-$i\", \"reason\": \"it is missing\"}}"; done
echo '`+whole+`'`)
	var seen []string
	machines, err := external.New(external.Options{Grace: 200 * time.Millisecond}).Ensure(t.Context(), r, func(c provider.Change) {
		time.Sleep(100 * time.Millisecond)
		seen = append(seen, c.Name)
	})
	require.NoError(t, err)
	assert.Len(t, machines, 1)
	assert.Equal(t, []string{"vm-1", "vm-2", "vm-3", "vm-4", "vm-5"}, seen)
}

func TestConsole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text, err := external.New(external.Options{}).Console(t.Context(), w.Request(t, providertest.Want{Nodes: 2}), "wc-0", 3)
	require.NoError(t, err)
	assert.Equal(t, strings.Repeat("a line of wc-0\n", 3), text)
}
