package vsphere

// What vCenter answers, said in the user's words, and whether trying again helps.

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/catamaran-k8s/catamaran/provider"
)

// permanentError is one that trying again can not mend. Its text does not say so: the words say what to do.
type permanentError struct{ error }

func (e permanentError) Unwrap() []error { return []error{e.error, provider.ErrPermanent} }

// permanent makes an error that trying again can not mend.
func permanent(format string, args ...any) error { return permanentError{fmt.Errorf(format, args...)} }

// explain adds what was tried, and what a fault means. An error of a call that was cut off wraps the reason for that.
func explain(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("vsphere: %s: %w", what, context.Cause(ctx))
	}
	if words := meaning(err); words != "" {
		err = permanentError{fmt.Errorf("%w: %s", err, words)}
	}
	return fmt.Errorf("vsphere: %s: %w", what, err)
}

// meaning is what to do about an error that trying again can not mend; empty for all others.
func meaning(err error) string {
	if errors.Is(err, provider.ErrPermanent) {
		return ""
	}
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) {
		return "name the vCenter's authority (caFile, GOVC_TLS_CA_CERTS) or pin its certificate (thumbprint, GOVC_TLS_KNOWN_HOSTS); " +
			"GOVC_INSECURE is not honoured"
	}
	words := ""
	fault.In(err, func(f types.BaseMethodFault, message string, _ []types.LocalizableMessage) bool {
		words = faultMeaning(f)
		if words != "" && message != "" && !strings.HasPrefix(message, "*") {
			words += " (" + message + ")"
		}
		return words != ""
	})
	return words
}

// faultMeaning is the table of the faults that trying again can not mend.
func faultMeaning(f types.BaseMethodFault) string {
	switch f := f.(type) {
	case *types.InvalidLogin, *types.NoPermission, *types.RestrictedVersion:
		return refused(f)
	case *types.NoDiskSpace:
		return fmt.Sprintf("the datastore %s is full: free space on it, or name another one", f.Datastore)
	case types.BaseInsufficientResourcesFault:
		return fmt.Sprintf("there is not enough room (%s): free some, or name another cluster, resource pool or datastore", faultName(f))
	case *types.DuplicateName:
		return fmt.Sprintf("something else is named %s there: rename it, or adopt it with vm", f.Name)
	case *types.InvalidArgument:
		return fmt.Sprintf("the vCenter refuses the value of %s", f.InvalidProperty)
	case types.BaseInvalidVmConfig:
		return fmt.Sprintf("the vCenter refuses the machine's settings (%s %s)", faultName(f), f.GetInvalidVmConfig().Property)
	case types.BaseNotSupported:
		return fmt.Sprintf("the vCenter or the host can not do this (%s)", faultName(f))
	}
	return ""
}

// refused says what the account lacks.
func refused(f types.BaseMethodFault) string {
	switch f := f.(type) {
	case *types.NoPermission:
		on := ""
		if f.Object != nil {
			on = " on " + f.Object.String()
		}
		privileges := f.PrivilegeId
		for _, m := range f.MissingPrivileges {
			privileges = strings.TrimPrefix(privileges+", "+strings.Join(m.PrivilegeIds, ", "), ", ")
		}
		return fmt.Sprintf("the account lacks the privilege %s%s: provider/vsphere/README.md lists all that are needed", privileges, on)
	case *types.InvalidLogin:
		return "the vCenter refuses the user name or the password: check GOVC_USERNAME and GOVC_PASSWORD"
	}
	return "the vCenter's licence does not allow it"
}

// faultName is the fault's type, as the vSphere API reference has it.
func faultName(f any) string { return reflect.TypeOf(f).Elem().Name() }

// isGone tells whether a call failed because its object is not there any more.
func isGone(err error) bool { return fault.Is(err, &types.ManagedObjectNotFound{}) }

// isLost tells whether a call failed because something that lives in the session went away with it.
func isLost(err error) bool {
	var f *types.ManagedObjectNotFound
	if _, ok := fault.As(err, &f); !ok {
		return false
	}
	switch f.Obj.Type {
	case "PropertyCollector", "PropertyFilter", "ContainerView":
		return true
	}
	return strings.HasPrefix(f.Obj.Value, "session[") // as vCenter names what belongs to a session
}
