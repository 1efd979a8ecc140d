"""Results of trainings, and the tables that documents make from them."""
