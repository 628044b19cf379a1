"""A synthetic economy of small enterprises: coherent tables for a consortium, from a stated seed.

Each enterprise has three latent strengths (liquidity, sales, compliance), an industry, a size, an age and a
region. From them come its default and, with noise, what each institution sees of it: banks mostly
liquidity, the platform mostly sales, the administration sales and compliance. So a bank alone knows
something, banks together know more of the same, and partners add what no bank sees.

The numbers are made up: distributions are plausible, not estimated from anybody's data, and a model that was
trained on them says nothing about real borrowers. The seed is public and reproduces every byte.
"""

from concordat.economy.fields import data_contract
from concordat.economy.write import Economy, party_tables, write_economy

__all__ = ["Economy", "data_contract", "party_tables", "write_economy"]
