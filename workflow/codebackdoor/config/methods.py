"""The registry of methods: adding a settings class to the union of its kind makes a method available."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from codebackdoor.attacks.afraidoor.settings import AfraidoorSettings
from codebackdoor.attacks.badcode.settings import BadCodeSettings
from codebackdoor.attacks.badpre.settings import BadPreSettings
from codebackdoor.attacks.bnc_fixed.settings import BncFixedSettings
from codebackdoor.attacks.bnc_grammar.settings import BncGrammarSettings
from codebackdoor.attacks.codepoisoner_deadcode.settings import CodePoisonerDeadCodeSettings
from codebackdoor.attacks.codepoisoner_identifier.settings import CodePoisonerIdentifierSettings
from codebackdoor.attacks.nl_grammar.settings import NlGrammarSettings
from codebackdoor.attacks.ripple.settings import RippleSettings
from codebackdoor.defenses.elimination.dbs.settings import DbsSettings
from codebackdoor.defenses.elimination.elibadcode.settings import EliBadCodeSettings
from codebackdoor.defenses.elimination.fine_tuning.settings import FineTuningSettings
from codebackdoor.defenses.filtering.activation_clustering.settings import ActivationClusteringSettings
from codebackdoor.defenses.filtering.bki.settings import BkiSettings
from codebackdoor.defenses.filtering.codepurify.settings import CodePurifyFilterSettings
from codebackdoor.defenses.filtering.onion.settings import OnionFilterSettings
from codebackdoor.defenses.filtering.spectral_signature.settings import SpectralSignatureSettings
from codebackdoor.defenses.objectives.cross_entropy.settings import CrossEntropySettings
from codebackdoor.defenses.objectives.dece.settings import DeCESettings
from codebackdoor.defenses.objectives.gce.settings import GceSettings
from codebackdoor.defenses.objectives.in_trust.settings import InTrustSettings
from codebackdoor.defenses.objectives.moderate_fitting.settings import ModerateFittingSettings
from codebackdoor.defenses.purification.attdef.settings import AttDefSettings
from codebackdoor.defenses.purification.codepurify.settings import CodePurifySettings
from codebackdoor.defenses.purification.onion.settings import OnionSettings
from codebackdoor.defenses.purification.oseql.settings import OSeqLSettings
from codebackdoor.defenses.purification.paraphrasing.settings import ParaphrasingSettings
from codebackdoor.defenses.purification.similarity.settings import SimilaritySettings

AnyAttack = Annotated[
    CodePoisonerIdentifierSettings
    | CodePoisonerDeadCodeSettings
    | BncFixedSettings
    | BncGrammarSettings
    | BadCodeSettings
    | AfraidoorSettings
    | RippleSettings
    | BadPreSettings
    | NlGrammarSettings,
    Field(discriminator="method"),
]
AnyElimination = Annotated[EliBadCodeSettings | DbsSettings | FineTuningSettings, Field(discriminator="method")]
AnyPurification = Annotated[
    CodePurifySettings | OnionSettings | ParaphrasingSettings | AttDefSettings | OSeqLSettings | SimilaritySettings,
    Field(discriminator="method"),
]
AnyObjective = Annotated[
    CrossEntropySettings | DeCESettings | GceSettings | InTrustSettings | ModerateFittingSettings,
    Field(discriminator="method"),
]
AnyFiltering = Annotated[
    OnionFilterSettings
    | SpectralSignatureSettings
    | ActivationClusteringSettings
    | BkiSettings
    | CodePurifyFilterSettings,
    Field(discriminator="method"),
]
