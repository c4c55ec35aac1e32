package vsphere

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/provider"
)

const oneNode = `
    nodes:
      - {name: wc-1, role: control-plane}
`

// fail has a method of the simulator fail, max times (0: always).
func (c *cloud) fail(method string, f types.BaseMethodFault, most int) {
	c.model.Service.AddFaultRule(&simulator.FaultInjectionRule{
		MethodName: method, ObjectType: "*", ObjectName: "*", Probability: 1, FaultType: simulator.FaultTypeCustom, Fault: f, MaxCount: most, Enabled: true,
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]struct {
		method string
		fault  types.BaseMethodFault
		says   string
	}{
		"no permission to clone": {"CloneVM_Task", &types.NoPermission{PrivilegeId: "VirtualMachine.Provisioning.DeployTemplate"},
			"the account lacks the privilege VirtualMachine.Provisioning.DeployTemplate"},
		"no permission to make a folder": {"CreateFolder", &types.NoPermission{PrivilegeId: "Folder.Create"}, "lacks the privilege Folder.Create"},
		"no permission to power on":      {"PowerOnVM_Task", &types.NoPermission{PrivilegeId: "VirtualMachine.Interact.PowerOn"}, "VirtualMachine.Interact.PowerOn"},
		"the datastore is full":          {"CloneVM_Task", &types.NoDiskSpace{Datastore: "LocalDS_0"}, "the datastore LocalDS_0 is full: free space on it"},
		"no room for memory":             {"PowerOnVM_Task", &types.InsufficientMemoryResourcesFault{}, "there is not enough room (InsufficientMemoryResourcesFault)"},
		"a value that is refused":        {"CloneVM_Task", &types.InvalidArgument{InvalidProperty: "spec.pool"}, "refuses the value of spec.pool"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			r := c.site(t, oneNode)
			c.fail(k.method, k.fault, 0)
			_, err := c.with(nil).Ensure(t.Context(), r, nil)
			require.ErrorIs(t, err, provider.ErrPermanent)
			assert.ErrorContains(t, err, k.says)
			assert.ErrorContains(t, err, "vsphere: ensure the workload cluster: ")

			c.model.Service.ClearFaultRules() // the operator has mended it
			require.NoError(t, ensured(c, r))
			require.NoError(t, destroyed(c, r))
			assert.Empty(t, c.made(t))
		})
	}
}

func TestPassingFault(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.fail("CloneVM_Task", &types.HostCommunication{}, 1)
	r := c.site(t, oneNode)
	_, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.Error(t, err)
	assert.NotErrorIs(t, err, provider.ErrPermanent, "a host that did not answer may answer next time")
	assert.NoError(t, ensured(c, r))
}

// A task that was accepted and fails in its last moments.
func TestTaskThatFailsLate(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, "    nodes:\n      - {name: wc-1, role: control-plane}\n      - {name: wc-2, role: worker}\n")
	var cloned, failed atomic.Bool
	c.onCall(func(call string, w http.ResponseWriter, body []byte) bool {
		if call == "CloneVM_Task" {
			cloned.Store(true)
		}
		if call == "RetrievePropertiesEx" && cloned.Load() && strings.Contains(string(body), ">task-") && failed.CompareAndSwap(false, true) {
			_, _ = w.Write([]byte(lateFailure))
			return true
		}
		return false
	})
	_, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "clone /DC0/vm/DC0_C0_RP0_VM0 for the node wc-")
	assert.ErrorContains(t, err, "the datastore LocalDS_0 is full")
	assert.ErrorContains(t, err, "Insufficient disk space on datastore 'LocalDS_0'.", "the vCenter's own words")
	c.revive()
	require.NoError(t, ensured(c, r), "one clone was there, though its task was said to have failed")
	assert.Equal(t, 2, c.made(t)["VirtualMachine"])
}

const lateFailure = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema"><soapenv:Body><RetrievePropertiesExResponse xmlns="urn:vim25"><returnval><objects>
<obj type="Task">task-1</obj><propSet><name>info</name><val xsi:type="TaskInfo"><key>task-1</key><task type="Task">task-1</task>
<descriptionId>VirtualMachine.clone</descriptionId><state>error</state><cancelled>false</cancelled><cancelable>false</cancelable>
<error><fault xsi:type="NoDiskSpace"><file>wc-1.vmdk</file><datastore>LocalDS_0</datastore></fault>
<localizedMessage>Insufficient disk space on datastore 'LocalDS_0'.</localizedMessage></error>
<reason xsi:type="TaskReasonUser"><userName>lab</userName></reason><queueTime>2030-01-01T00:00:00Z</queueTime><eventChainId>1</eventChainId>
</val></propSet></objects></returnval></RetrievePropertiesExResponse></soapenv:Body></soapenv:Envelope>`

// Sessions end while machines are made: of both APIs, again and again.
func TestSessionExpiredInTheMiddle(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, spreadPool)
	var changes, looks, expired atomic.Int64
	var refused atomic.Int64
	c.onCall(func(call string, w http.ResponseWriter, _ []byte) bool {
		if strings.Contains(call, "/tagging/") && refused.Add(1)%4 == 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if slices.Contains([]string{"CreateFolder", "CloneVM_Task", "ReconfigureComputeResource_Task", "PowerOnVM_Task", "SetField"}, call) &&
			changes.Add(1)%4 == 1 || slices.Contains([]string{"WaitForUpdatesEx", "RetrievePropertiesEx"}, call) && looks.Add(1)%9 == 1 {
			// the call is repeated, and others came in between
			c.expire(context.Background())
			expired.Add(1)
		}
		return false
	})
	machines, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Len(t, machines, 3)
	assert.Greater(t, expired.Load(), int64(3))
	c.revive()
	assert.Equal(t, 2, c.made(t)["VirtualMachine"], "a repeated call made nothing twice")
}

func TestSlowVCenter(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.onCall(func(string, http.ResponseWriter, []byte) bool {
		time.Sleep(20 * time.Millisecond)
		return false
	})
	c.sleep = func(string) time.Duration { return time.Second }
	r := c.site(t, oneNode)
	machines, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	assert.NotEmpty(t, machines[0].Address, "the guest reported it late")
}

func TestGuestThatReportsNothing(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.sleep = func(string) time.Duration { return 4 * time.Second }
	p := c.with(nil)
	p.patience = time.Second
	_, err := p.Ensure(t.Context(), c.site(t, oneNode), nil)
	require.Error(t, err)
	assert.NotErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "the guest of /DC0/vm/umea/workload/wc-1 reports no address")
}

// A clone of a run that was killed is still on its way: it is waited for, not made a second time.
func TestCloneThatStillRuns(t *testing.T) { // not in parallel: the simulator's delay is for all
	c := newCloud(t)
	r := c.site(t, oneNode)
	before := simulator.TaskDelay
	t.Cleanup(func() { simulator.TaskDelay = before })
	simulator.TaskDelay = simulator.DelayConfig{MethodDelay: map[string]int{"CloneVm": 500, "LockHandoff": 0}}
	ctx, cancel := context.WithCancel(t.Context())
	c.mu.Lock()
	c.watch = func(call string) {
		if call == "CloneVM_Task" {
			time.AfterFunc(100*time.Millisecond, cancel)
		}
	}
	c.mu.Unlock()
	_, err := c.with(nil).Ensure(ctx, r, nil)
	require.ErrorIs(t, err, context.Canceled)
	c.Watch(func() {})
	c.counted()
	require.NoError(t, ensured(c, r))
	assert.NotContains(t, c.counted(), "CloneVM_Task", "the first one was found")
	assert.Equal(t, 1, c.made(t)["VirtualMachine"])
}

// A clone of another run takes the machine's name at the last moment: the next survey finds what it is.
func TestCloneThatComesInBetween(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	c.fail("CloneVM_Task", &types.DuplicateName{Name: "wc-1"}, 1)
	require.NoError(t, ensured(c, c.site(t, oneNode)))
	assert.Equal(t, 1, c.made(t)["VirtualMachine"])
}

// Half a clone: it has its marks, but the run was cut off before it was powered on.
func TestHalfAClone(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, oneNode)
	c.fail("PowerOnVM_Task", &types.HostCommunication{}, 0)
	require.Error(t, ensured(c, r))
	c.model.Service.ClearFaultRules()
	p, err := c.with(nil).Plan(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, p.Changes, 1)
	assert.Equal(t, provider.Change{Verb: provider.Update, Kind: "machine", Name: "wc-1",
		Reason: "it is powered off, it lacks tags, it lacks custom attributes"}, p.Changes[0])
	key := settings(c.machine(t, "wc-1"))[markHostKey]
	machines, err := c.with(nil).Ensure(t.Context(), r, nil)
	require.NoError(t, err)
	assert.Equal(t, key, machines[0].HostKey, "the key that its user data holds")
}

// Something without marks stands where a machine belongs: it is nobody's to delete.
func TestForeignMachineInTheWay(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	r := c.site(t, oneNode)
	require.NoError(t, ensured(c, r))
	c.set(t, "wc-1", map[string]string{markNode: ""})
	_, err := c.with(nil).Plan(t.Context(), r)
	require.ErrorIs(t, err, provider.ErrPermanent)
	assert.ErrorContains(t, err, "/DC0/vm/umea/workload/wc-1 stands where the machine of the node wc-1 belongs, and has no marks of ours")
	require.NoError(t, destroyed(c, r))
	assert.Equal(t, map[string]int{"VirtualMachine": 1, "Folder": 2}, c.made(t), "its folders stay too: they would take it along")
}
