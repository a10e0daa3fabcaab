"""From the file's words about rotation to the program's values [pure].

Duty: as for ``convert``, for the sections about rotation.
"""

from __future__ import annotations

from typing import assert_never

from broker.settings import domain_rotation as domain
from broker.settings import schema_rotation as schema
from broker.settings.units import seconds, vault_path


def rotation(one: schema.Rotation) -> domain.RotationSettings:
    """Who rotates."""
    election = one.election
    return domain.RotationSettings(
        mode=one.mode,
        installation=one.installation or "",
        state=domain.StateSettings(vault_path(one.state.mount), vault_path(one.state.prefix)),
        election=domain.ElectionSettings(
            lease=election.lease,
            namespace=election.namespace,
            lease_duration=seconds(election.lease_duration),
            renew_deadline=seconds(election.renew_deadline),
            retry_period=seconds(election.retry_period),
        ),
    )


def kubernetes(one: schema.Kubernetes) -> domain.KubernetesSettings:
    """Where the Kubernetes API is."""
    return domain.KubernetesSettings(
        address=one.address.rstrip("/"),
        token_file=one.token_file,
        ca_file=one.ca_file,
        namespace=one.namespace,
        pod=one.pod,
        pod_uid=one.pod_uid,
    )


def credential_rotation(
    one: schema.CredentialRotation, own: schema.Prove | None
) -> domain.CredentialRotationSettings:
    """How one credential's upstream key is replaced; ``own``: the credential's own proof."""
    proof = one.prove
    if proof is None and not isinstance(one.driver, schema.VaultRoleDriver):
        proof = own
    return domain.CredentialRotationSettings(
        driver=_driver(one.driver),
        max_age=seconds(one.max_age),
        before_expiry=seconds(one.before_expiry),
        overlap=seconds(one.overlap),
        settle=seconds(one.settle),
        prove=prove(proof) if proof else None,
        orphans=one.orphans,
    )


def _driver(driver: schema.Driver) -> domain.DriverSettings:
    if isinstance(driver, schema.HttpDriver):
        return domain.HttpDriverSettings(
            auth=driver.auth,
            create=_create(driver.create),
            listing=_listing(driver.listing) if driver.listing else None,
            retire=_request(driver.retire),
            times=driver.times,
            timeout=seconds(driver.timeout),
            ca_file=driver.ca_file,
        )
    if isinstance(driver, schema.GeneratedDriver):
        return domain.GeneratedDriverSettings(
            mount=vault_path(driver.mount),
            path=vault_path(driver.path),
            publish=driver.publish,
            field=driver.field,
            prefix=driver.prefix,
            length=driver.length,
            alphabet=driver.alphabet,
        )
    if isinstance(driver, schema.VaultRoleDriver):
        return domain.VaultRoleDriverSettings()
    assert_never(driver)


def _create(create: schema.Create) -> domain.CreateSettings:
    return domain.CreateSettings(
        request=_request(create),
        fields=dict(create.answer.fields),
        id=create.answer.id,
        expires_at=create.answer.expires_at,
        life=None if create.life is None else seconds(create.life),
    )


def _listing(listing: schema.Listing) -> domain.ListSettings:
    answer = listing.answer
    return domain.ListSettings(
        request=_request(listing),
        items=answer.items,
        id=answer.id,
        label=answer.label,
        created_at=answer.created_at,
        next=answer.next.pointer if answer.next else None,
        cursor=answer.next.parameter if answer.next else "",
    )


def prove(one: schema.Prove) -> domain.ProveSettings:
    """The request that shows whether a value works."""
    return domain.ProveSettings(_request(one), seconds(one.timeout), one.ca_file)


def _request(request: schema.Request) -> domain.RequestSettings:
    return domain.RequestSettings(
        method=request.method,
        url=request.url,
        headers=dict(request.headers),
        body=None if request.body is None else dict(request.body),
        encoding=request.encoding,
    )
