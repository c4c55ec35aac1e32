"""Stand-in for a hypervisor: nova's own fake driver, which keeps what it is told in files, one for each server, instead of in memory.

The lab follows these files and makes a host of each. So a server outlives nova-compute, as it does on a hypervisor, and the end of the
host's console is what nova shows. A flavor with the extra spec lab:broken makes no server: what is said there is the error.
"""
import glob
import json
import os
import uuid

from nova import exception
from nova.compute import power_state
from nova.virt import fake

FOLDER = os.environ['LAB_SERVERS']
CONSOLES = os.environ['LAB_CONSOLES']


def path(instance_uuid):
    return os.path.join(FOLDER, instance_uuid + '.json')


def load(instance_uuid):
    with open(path(instance_uuid)) as f:
        return json.load(f)


def store(instance_uuid, server):
    fresh = path(instance_uuid) + '.new'
    with open(fresh, 'w') as f:
        json.dump(server, f)
    os.rename(fresh, path(instance_uuid))


def fixed(network_info):
    """The server's own addresses, in the order of its ports."""
    out = []
    for vif in network_info or []:
        for ip in vif.fixed_ips():
            out.append({'port': vif['id'], 'address': ip['address']})
    return out


class Driver(fake.FakeDriver):
    def init_host(self, host):
        super().init_host(host)
        for name in glob.glob(os.path.join(FOLDER, '*.json')):
            instance_uuid = os.path.basename(name)[:-len('.json')]
            server = load(instance_uuid)
            if server['compute'] == host:
                state = power_state.RUNNING if server['on'] else power_state.SHUTDOWN
                self.instances[instance_uuid] = fake.FakeInstance(server['instance'], state, instance_uuid)

    def _change(self, instance, **changes):
        server = load(instance.uuid)
        server.update(changes)
        store(instance.uuid, server)

    def spawn(self, context, instance, image_meta, injected_files, admin_password, allocations, network_info=None,
              block_device_info=None, power_on=True, accel_info=None):
        broken = instance.flavor.extra_specs.get('lab:broken')
        if broken:
            raise exception.InstanceDeployFailure(reason=broken)
        super().spawn(context, instance, image_meta, injected_files, admin_password, allocations, network_info,
                      block_device_info, power_on, accel_info)
        store(instance.uuid, {
            'name': instance.display_name, 'hostname': instance.hostname, 'instance': instance.name, 'project': instance.project_id,
            'compute': self._host, 'on': power_on, 'disk': str(uuid.uuid4()), 'boot': '', 'memoryMiB': instance.flavor.memory_mb,
            'addresses': fixed(network_info), 'userData': instance.user_data or '', 'key': instance.key_data or ''})

    def destroy(self, context, instance, network_info, block_device_info=None, destroy_disks=True, destroy_secrets=True):
        super().destroy(context, instance, network_info, block_device_info, destroy_disks, destroy_secrets)
        try:
            if load(instance.uuid)['compute'] == self._host:
                os.remove(path(instance.uuid))
        except FileNotFoundError:
            pass

    def power_off(self, instance, timeout=0, retry_interval=0):
        super().power_off(instance, timeout, retry_interval)
        self._change(instance, on=False)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None):
        super().power_on(context, instance, network_info, block_device_info, accel_info)
        self._change(instance, on=True)

    def reboot(self, context, instance, network_info, reboot_type, block_device_info=None, bad_volumes_callback=None, accel_info=None):
        super().reboot(context, instance, network_info, reboot_type, block_device_info, bad_volumes_callback, accel_info)
        self._change(instance, on=True, boot=str(uuid.uuid4()))

    def attach_interface(self, context, instance, image_meta, vif):
        super().attach_interface(context, instance, image_meta, vif)
        self._change(instance, addresses=load(instance.uuid)['addresses'] + fixed([vif]))

    def finish_migration(self, context, migration, instance, disk_info, network_info, image_meta, resize_instance, allocations,
                         block_device_info=None, power_on=True):
        super().finish_migration(context, migration, instance, disk_info, network_info, image_meta, resize_instance, allocations,
                                 block_device_info, power_on)
        self._change(instance, compute=self._host, on=power_on, boot=str(uuid.uuid4()), memoryMiB=instance.flavor.memory_mb)

    def finish_revert_migration(self, context, instance, network_info, migration, block_device_info=None, power_on=True):
        super().finish_revert_migration(context, instance, network_info, migration, block_device_info, power_on)
        self._change(instance, compute=self._host, on=power_on, boot=str(uuid.uuid4()), memoryMiB=instance.flavor.memory_mb)

    def get_console_output(self, context, instance):
        try:
            with open(os.path.join(CONSOLES, instance.uuid), 'rb') as f:
                return f.read()
        except FileNotFoundError:
            return b''
