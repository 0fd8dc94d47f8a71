"""The steps of an add-on's life on either side, before or after which a process may die.

As `platform.provider_client.provision after`: the function of addon/ that is a step, and whether it
has done its work. `ASYNC` are those that only a plan with background work comes to in each of the
three, `SYNC` those that only another does.
"""

PROVISIONING = (
    "platform.provisioning.drive_provisioning before",
    "platform.partner_tokens.issue_grant after",
    "platform.provider_client.provision after",
    "platform.provisioning._wait_for_provider before",
    "provider.provisioning.provision before",
    "provider.provisioning.provision after",
    "provider.provisioning._insert_attachment after",
    "provider.grants._lease after",
    "platform.partner_tokens.exchange after",  # the tokens are made, and reach nobody
    "provider.grants._store before",
    "provider.grants._store after",
    "provider.provisioning.finish before",
    "provider.provisioning._finish_provision after",
    "provider.provisioning.finish after",
    "provider.deliveries._deliver before",
    "platform.partner_actions.update_attachment_config after",
    "provider.platform_client.update_attachment_config after",
    "platform.attachments.finish after",
    "platform.partner_actions.mark_provisioned after",
    "provider.platform_client.mark_provisioned after",
    "provider.callbacks.end after",
    "provider.provisioning.confirm before",
    "provider.deliveries._release before",
)
PLAN_CHANGE = (
    "platform.plan_changes._lease after",
    "platform.provider_client.change_plan after",
    "platform.plan_changes._wait_for_provider before",
    "platform.plan_changes._finish before",
    "provider.provisioning.put_on_plan after",
    "provider.provisioning.finish after",
    "platform.partner_actions.update_config after",
    "platform.partner_actions.mark_provisioned after",
    "provider.platform_client.mark_provisioned after",
    "provider.callbacks.end before",
)
DEPROVISIONING = (
    "platform.provisioning.drive_deprovisioning before",
    "platform.provider_client.deprovision after",
    "platform.provisioning._wait_for_removal before",
    "platform.provisioning._finish_removal before",
    "provider.provisioning.end after",
    "provider.provisioning.finish after",
    "platform.partner_actions.mark_deprovisioned after",
    "provider.platform_client.mark_deprovisioned after",
    "provider.callbacks.end before",
)
ALL = PROVISIONING + PLAN_CHANGE + DEPROVISIONING
SYNC = frozenset({"platform.provisioning._finish_removal"})
ASYNC = frozenset(
    {
        "platform.provisioning._wait_for_provider",
        "platform.provisioning._wait_for_removal",
        "platform.plan_changes._wait_for_provider",
        "platform.partner_actions.update_attachment_config",
        "platform.partner_actions.update_config",
        "platform.partner_actions.mark_provisioned",
        "platform.partner_actions.mark_deprovisioned",
        "provider.provisioning.finish",
        "provider.provisioning._finish_provision",
        "provider.provisioning.confirm",
        "provider.deliveries._deliver",
        "provider.platform_client.update_attachment_config",
        "provider.platform_client.mark_provisioned",
        "provider.platform_client.mark_deprovisioned",
        "provider.callbacks.end",
    }
)


def step_of(point: str) -> str:
    return point.rpartition(" ")[0]
