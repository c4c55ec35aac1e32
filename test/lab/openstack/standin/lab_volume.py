"""Stand-in for a storage: cinder's own logging driver, with endless room and images that are there at once. Volumes hold no bytes."""
from cinder.tests import fake_driver


class Driver(fake_driver.FakeLoggingVolumeDriver):
    def _update_volume_stats(self):
        self._stats = {
            'volume_backend_name': self.configuration.safe_get('volume_backend_name'), 'vendor_name': 'lab', 'driver_version': '1',
            'storage_protocol': 'fake',
            'pools': [{'pool_name': 'lab', 'total_capacity_gb': 'infinite', 'free_capacity_gb': 'infinite', 'provisioned_capacity_gb': 0,
                       'reserved_percentage': 0, 'QoS_support': False, 'multiattach': True, 'thin_provisioning_support': True,
                       'max_over_subscription_ratio': '20.0', 'location_info': 'lab'}]}

    def get_volume_stats(self, refresh=False):
        self._update_volume_stats()
        return self._stats

    def clone_image(self, context, volume, image_location, image_meta, image_service):
        return {}, True

    def copy_image_to_volume(self, context, volume, image_service, image_id):
        pass

    def extend_volume(self, volume, new_size):
        pass
