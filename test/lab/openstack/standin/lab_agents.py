"""Stand-in for neutron's agents: it speaks their RPC and moves no packet.

There is an Open vSwitch agent for each compute host, so that ports are bound and become ACTIVE, and an L3 agent, so that floating
addresses do. Which floating address belongs to which port is written to a file, and the lab gives it to that port's host.
"""
import eventlet
eventlet.monkey_patch()
import json
import os
import sys
import time

import oslo_messaging
from keystoneauth1 import adapter
from keystoneauth1 import loading
from neutron.agent import rpc as agent_rpc
from neutron.common import config as common_config
from neutron.conf.agent import common as agent_conf
from neutron_lib import context
from neutron_lib import rpc as n_rpc
from neutron_lib.agent import topics
from oslo_config import cfg
from oslo_log import log as logging

LOG = logging.getLogger('lab-agents')
COMPUTES = os.environ['LAB_COMPUTES'].split()
FLOATING = os.environ['LAB_FLOATING']
GATEWAY = 'net1'
HEARTBEAT = 60
POLL = 0.5


def states():
    out = []
    for host in COMPUTES + [GATEWAY]:
        out.append({
            'binary': 'neutron-openvswitch-agent', 'host': host, 'agent_type': 'Open vSwitch agent', 'topic': 'N/A', 'start_flag': True,
            'resource_versions': {},
            'configurations': {
                'bridge_mappings': {'physnet1': 'br-ex'}, 'tunnel_types': ['vxlan'], 'tunneling_ip': '127.0.0.1', 'l2_population': False,
                'arp_responder_enabled': False, 'enable_distributed_routing': False, 'datapath_type': 'system',
                'ovs_capabilities': {'datapath_types': ['system'], 'iface_types': []}, 'ovs_hybrid_plug': False,
                'vhostuser_socket_dir': '/tmp', 'integration_bridge': 'br-int', 'devices': 0}})
    out.append({
        'binary': 'neutron-l3-agent', 'host': GATEWAY, 'agent_type': 'L3 agent', 'topic': 'l3_agent', 'start_flag': True,
        'availability_zone': 'nova', 'resource_versions': {},
        'configurations': {
            'agent_mode': 'legacy', 'handle_internal_only_routers': True, 'external_network_bridge': '', 'gateway_external_network_id': '',
            'interface_driver': 'openvswitch', 'log_agent_heartbeats': False, 'routers': 0, 'ex_gw_ports': 0, 'interfaces': 0,
            'floating_ips': 0, 'extensions': []}})
    return out


class Agents:
    def __init__(self):
        self.context = context.get_admin_context_without_session()
        self.reports = agent_rpc.PluginReportStateAPI(topics.REPORTS)
        self.plugin = agent_rpc.PluginApi(topics.PLUGIN)
        self.l3 = n_rpc.get_client(oslo_messaging.Target(topic=topics.L3PLUGIN, version='1.0'))
        auth = loading.load_auth_from_conf_options(cfg.CONF, 'nova')
        session = loading.load_session_from_conf_options(cfg.CONF, 'nova', auth=auth)
        self.api = adapter.Adapter(session, service_type='network', interface='internal', region_name='RegionOne')
        self.states = states()
        self.told = None

    def report(self):
        for state in self.states:
            self.reports.report_state(self.context, state, True)
            state.pop('start_flag', None)

    def ports(self):
        by_host = {}
        fields = 'fields=id&fields=status&fields=binding:host_id'
        for port in self.api.get('/v2.0/ports?' + fields).json()['ports']:
            if port.get('binding:host_id') and port['status'] in ('DOWN', 'BUILD'):
                by_host.setdefault(port['binding:host_id'], []).append(port['id'])
        for host, ids in by_host.items():
            agent = 'ovs-agent-' + host
            self.plugin.get_devices_details_list_and_failed_devices(self.context, ids, agent, host)
            self.plugin.update_device_list(self.context, ids, [], agent, host)

    def floating(self):
        fields = 'fields=id&fields=status&fields=router_id&fields=port_id&fields=floating_ip_address'
        active, by_port = {}, {}
        for ip in self.api.get('/v2.0/floatingips?' + fields).json()['floatingips']:
            if not ip.get('port_id'):
                continue
            by_port.setdefault(ip['port_id'], []).append(ip['floating_ip_address'])
            if ip.get('router_id') and ip['status'] != 'ACTIVE':
                active.setdefault(ip['router_id'], {})[ip['id']] = 'ACTIVE'
        if by_port != self.told:
            with open(FLOATING + '.new', 'w') as f:
                json.dump(by_port, f)
            os.rename(FLOATING + '.new', FLOATING)
            self.told = by_port
        if active:
            # a router belongs to the agent that asked for it
            self.l3.prepare(version='1.10').call(self.context, 'sync_routers', host=GATEWAY, router_ids=list(active))
        for router, statuses in active.items():
            self.l3.prepare(version='1.1').call(self.context, 'update_floatingip_statuses', router_id=router, fip_statuses=statuses)

    def run(self):
        reported = 0
        while True:
            try:
                if time.time() - reported > HEARTBEAT:
                    self.report()
                    reported = time.time()
                self.ports()
                self.floating()
            except Exception:  # the servers may not be up yet, or be stopped before this is
                LOG.exception('tried again')
            time.sleep(POLL)


def main():
    agent_conf.register_agent_state_opts_helper(cfg.CONF)
    common_config.register_common_config_options()
    common_config.init(sys.argv[1:])
    common_config.setup_logging()
    loading.register_auth_conf_options(cfg.CONF, 'nova')
    loading.register_session_conf_options(cfg.CONF, 'nova')
    Agents().run()


main()
