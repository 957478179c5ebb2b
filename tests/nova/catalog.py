"""Service project, service users and endpoints, through Keystone: catalog.py URL PASSWORD type=url …"""

import sys

import openstack

USERS = {"image": "glance", "compute": "nova", "network": "neutron"}

url, password = sys.argv[1:3]
cloud = openstack.connect(
    auth_url=url, username="admin", password=password, project_name="admin",
    user_domain_name="Default", project_domain_name="Default", region_name="RegionOne",
)  # fmt: skip
identity = cloud.identity
project = identity.find_project("service") or identity.create_project(name="service", domain_id="default")
roles = {role.name: role for role in identity.roles()}
for spec in sys.argv[3:]:
    kind, endpoint = spec.split("=", 1)
    name = USERS.get(kind, kind)
    user = identity.find_user(name) or identity.create_user(name=name, password=password, domain_id="default")
    for role in ("admin", "service"):
        if role in roles:
            identity.assign_project_role_to_user(project, user, roles[role])
    service = identity.create_service(name=name, type=kind)
    for interface in ("public", "internal", "admin"):
        identity.create_endpoint(
            service_id=service.id, interface=interface, url=endpoint, region_id="RegionOne"
        )

# Whoever uses `fleet` is no administrator: a project of its own, and a user with the role `member` in it.
tenant = identity.create_project(name="fleet", domain_id="default")
user = identity.create_user(name="fleet", password=password, domain_id="default")
identity.assign_project_role_to_user(tenant, user, roles["member"])
