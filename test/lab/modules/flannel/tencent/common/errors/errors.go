// Package errors stands in for the cloud SDK's package of the same path.
package errors

// TencentCloudSDKError is what a refused call would return.
type TencentCloudSDKError struct{}

// Error says why no call can succeed.
func (*TencentCloudSDKError) Error() string {
	return "the tencent-vpc backend is not part of this build of flannel"
}
