"""What the demo organisation is made of, all of it invented: names of seven languages, places, groups, reasons for changes."""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.replace("\n", " ").split(",") if name.strip())


# By language: first names, last names.
NAMES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "en": (
        _names("""
        Olivia, Amelia, Isla, Ava, Mia, Grace, Freya, Lily, Ella, Rosie, Charlotte, Evie, Sophie, Poppy, Alice, Hannah,
        Siobhán, Niamh, Aoife, Mary-Kate, Beth, Megan, Rachel, Naomi, Priya, Fatima, Chloe, Zoë, Imogen, Abigail, Eleanor,
        Oliver, George, Arthur, Noah, Muhammad, Leo, Harry, Oscar, Archie, Henry, Theodore, Seán, Pádraig, Ciarán, Rhys,
        Owen, Jack, Thomas, William, James, Joshua, Ethan, Daniel, Samuel, Benjamin, Kwame, Ravi, Billy-Joe, Angus, Callum
        """),
        _names("""
        Smith, Jones, Taylor, Brown, Williams, Wilson, Johnson, Davies, Patel, Robinson, Wright, Thompson, Evans, Walker,
        White, Roberts, Green, Hall, Wood, Jackson, Clarke, O'Brien, O'Sullivan, O'Connor, O'Neill, McCarthy, MacDonald,
        Murphy, Kelly, Byrne, Ryan, Walsh, Doyle, Gallagher, Campbell, Stewart, Morrison, Fraser, Khan, Hughes, Edwards,
        Lewis, Harris, Martin, Cooper, King, Lee, Baker, Harrison, Morgan, Allen, Scott, Watson, Carter, Phillips, Bennett,
        Cox, Shaw, Mitchell, Marshall, Simpson, Price, Anderson, Foster, Butler, Russell, Fisher, Barker, Mills, Knight,
        Webb, Pearce, Chapman, Hunt, Fitzgerald, Parker-Bowen, Lloyd-Hughes, Featherstonehaugh, Cholmondeley-Warner,
        St Clair
        """),
    ),
    "fr": (
        _names("""
        Emma, Louise, Jade, Alice, Chloé, Inès, Léa, Manon, Camille, Zoé, Anaïs, Élodie, Aurélie, Céline, Hélène, Margaux,
        Océane, Maëlys, Noémie, Anne-Sophie, Marie-Claire, Marie-Hélène, Françoise, Sylvie, Nathalie, Véronique, Geneviève,
        Aïcha, Amélie, Éloïse, Agnès, Gabriel, Raphaël, Léo, Louis, Lucas, Hugo, Jules, Arthur, Nathan, Théo, Mathéo,
        Antoine, Clément, Benoît, Rémi, Jérôme, Sébastien, François, Étienne, Frédéric, Stéphane, Loïc, Gaël, Jean-Pierre,
        Jean-Baptiste, Jean-François, Pierre-Yves, Mickaël, Cédric, Grégoire
        """),
        _names("""
        Martin, Bernard, Thomas, Petit, Robert, Richard, Durand, Dubois, Moreau, Laurent, Simon, Michel, Lefèvre, Leroy,
        Roux, David, Bertrand, Morel, Fournier, Girard, Bonnet, Dupont, Lambert, Fontaine, Rousseau, Vincent, Muller,
        Lefebvre, Faure, André, Mercier, Blanc, Guérin, Boyer, Garnier, Chevalier, François, Legrand, Gauthier, Garcia,
        Perrin, Robin, Clément, Morin, Nicolas, Henry, Roussel, Mathieu, Gautier, Masson, Marchand, Duval, Denis, Dumont,
        Marie, Lemaire, Noël, Meyer, Dufour, Meunier, Brun, Blanchard, Giraud, Joly, Rivière, Lucas, Brunet, Gaillard,
        Barbier, Arnaud, Benoît, d'Aubigné, de La Tour, Le Goff, L'Hostis, N'Diaye, Benaïssa, Saint-Jean, Dupont-Lajoie,
        Crèvecœur
        """),
    ),
    "it": (
        _names("""
        Sofia, Giulia, Aurora, Alice, Ginevra, Emma, Giorgia, Greta, Beatrice, Anna, Chiara, Sara, Martina, Francesca,
        Elisa, Elena, Valentina, Federica, Alessia, Silvia, Niccolina, Maria Grazia, Annalisa, Mariarosa, Lucia, Paola,
        Caterina, Ilaria, Serena, Desirée, Leonardo, Francesco, Tommaso, Edoardo, Alessandro, Lorenzo, Mattia, Gabriele,
        Riccardo, Andrea, Diego, Matteo, Nicolò, Giuseppe, Antonio, Federico, Marco, Luca, Davide, Simone, Giovanni,
        Pietro, Filippo, Salvatore, Gian Marco, Gianluigi, Pierpaolo, Mosè, Josuè, Vincenzo
        """),
        _names("""
        Rossi, Russo, Ferrari, Esposito, Bianchi, Romano, Colombo, Ricci, Marino, Greco, Bruno, Gallo, Conti, De Luca,
        Mancini, Costa, Giordano, Rizzo, Lombardi, Moretti, Barbieri, Fontana, Santoro, Mariani, Rinaldi, Caruso, Ferrara,
        Galli, Martini, Leone, Longo, Gentile, Martinelli, Vitale, Lombardo, Serra, Coppola, De Santis, D'Angelo,
        Marchetti, Parisi, Villa, Conte, Ferraro, Ferri, Fabbri, Bianco, Marini, Grasso, Valentini, Messina, Sala,
        De Angelis, Gatti, Pellegrini, Palumbo, Sanna, Farina, Rizzi, Monti, Cattaneo, Morelli, Amato, Silvestri, Mazza,
        Testa, Grassi, Pellegrino, Carbone, Giuliani, Benedetti, Barone, D'Amico, Dell'Acqua, Dall'Oglio, De' Medici,
        Nicolò, Cantù, Pirrò, Lo Presti
        """),
    ),
    "de": (
        _names("""
        Emilia, Mia, Sophia, Hannah, Emma, Lina, Ella, Leni, Clara, Lea, Marie, Anna, Johanna, Käthe, Jördis, Sünje,
        Ulrike, Sabine, Petra, Monika, Claudia, Ursula, Heike, Antje, Anneliese, Gönül, Ayşe, Marie-Luise, Anna-Lena,
        Hannelore, Zoë, Noah, Matteo, Elias, Leon, Paul, Theo, Luca, Finn, Liam, Emil, Felix, Jonas, Maximilian, Moritz,
        Jürgen, Günther, Björn, Sören, Jörg, Götz, Rüdiger, Volker, Uwe, Dieter, Hans-Peter, Karl-Heinz, Mehmet, Cem,
        Wolfgang
        """),
        _names("""
        Müller, Schmidt, Schneider, Fischer, Weber, Meyer, Wagner, Becker, Schulz, Hoffmann, Schäfer, Koch, Bauer, Richter,
        Klein, Wolf, Schröder, Neumann, Schwarz, Zimmermann, Braun, Krüger, Hofmann, Hartmann, Lange, Schmitt, Werner,
        Schmitz, Krause, Meier, Lehmann, Schmid, Schulze, Maier, Köhler, Herrmann, König, Walter, Mayer, Huber, Kaiser,
        Fuchs, Peters, Lang, Scholz, Möller, Weiß, Jung, Hahn, Schubert, Vogel, Friedrich, Keller, Günther, Frank, Berger,
        Winkler, Roth, Beck, Lorenz, Baumann, Franke, Albrecht, Schuster, Simon, Ludwig, Böhm, Winter, Kraus, Martin,
        Schumacher, Krämer, Vogt, Yılmaz, Großmann, von Hohenfels, von der Heide, Müller-Lüdenscheid, Schulze-Ellerbrock,
        Freiherr von Bärenklau
        """),
    ),
    "es": (
        _names("""
        Lucía, Sofía, Martina, María, Julia, Paula, Valeria, Emma, Daniela, Carla, Alba, Noa, Sara, Ángela, Inés, Begoña,
        Rocío, Belén, Mª Carmen, María José, María del Mar, Concepción, Nieves, Aránzazu, Itziar, Montserrat, Núria,
        Ximena, Guadalupe, Mónica, Verónica, Martín, Hugo, Mateo, Leo, Lucas, Daniel, Alejandro, Manuel, Pablo, Álvaro,
        Adrián, Enzo, Diego, Ángel, Íñigo, Óscar, Rubén, Iván, Sergio, José Luis, Juan Carlos, José María, Joaquín, Andrés,
        Nicolás, Sebastián, Agustín, Ramón, Tomás, Jesús
        """),
        _names("""
        García, Rodríguez, González, Fernández, López, Martínez, Sánchez, Pérez, Gómez, Martín, Jiménez, Hernández, Ruiz,
        Díaz, Moreno, Muñoz, Álvarez, Romero, Gutiérrez, Alonso, Navarro, Torres, Domínguez, Ramos, Vázquez, Ramírez, Gil,
        Serrano, Morales, Molina, Blanco, Suárez, Castro, Ortega, Delgado, Ortiz, Marín, Rubio, Núñez, Medina, Sanz,
        Castillo, Iglesias, Cortés, Garrido, Santos, Guerrero, Lozano, Cano, Cruz, Méndez, Flores, Prieto, Herrera, Peña,
        León, Márquez, Cabrera, Gallego, Calvo, Vidal, Campos, Reyes, Vega, Fuentes, Carrasco, Aguilar, Caballero, Nieto,
        Santana, Vargas, Ibáñez, Yáñez, Ordóñez, de la Fuente, de los Ríos, del Olmo, Puig, Etxeberría, Ruiz-Gallardón
        """),
    ),
    "pt": (
        _names("""
        Maria, Alice, Helena, Laura, Heloísa, Sophia, Manuela, Júlia, Cecília, Isabela, Beatriz, Mariana, Antônia, Lívia,
        Vitória, Inês, Conceição, Luísa, Letícia, Patrícia, Flávia, Cláudia, Mônica, Verônica, Fátima, Ana Beatriz,
        Ana Luísa, Maria Eduarda, Maria João, Assunção, Miguel, Arthur, Gael, Heitor, Théo, Davi, Gabriel, Bernardo,
        Samuel, João, Pedro, Lucas, Rafael, Matheus, Antônio, António, José, Luís, Cauã, Vinícius, Fábio, Márcio, Sérgio,
        Rogério, Estêvão, João Pedro, Luiz Felipe, Zé Carlos, Nuno, Tiago
        """),
        _names("""
        Silva, Santos, Oliveira, Souza, Rodrigues, Ferreira, Alves, Pereira, Lima, Gomes, Costa, Ribeiro, Martins,
        Carvalho, Almeida, Lopes, Soares, Fernandes, Vieira, Barbosa, Rocha, Dias, Nascimento, Andrade, Moreira, Nunes,
        Marques, Machado, Mendes, Freitas, Cardoso, Ramos, Gonçalves, Santana, Teixeira, Araújo, Correia, Pinto, Monteiro,
        Cunha, Moura, Cavalcanti, Campos, Jesus, Batista, Castro, Duarte, Azevedo, Reis, Neves, Melo, Coelho, Fonseca,
        Simões, Magalhães, Guimarães, Brandão, Leitão, Antão, Falcão, Assunção, Conceição, Antunes, Matos, Faria, Sousa,
        Tavares, Borges, Nóbrega, Brito, da Silva, dos Santos, de Oliveira, da Conceição, do Nascimento, d'Ávila,
        Sá-Carneiro, Vaz de Melo, Xavier, Queirós
        """),
    ),
    "nl": (
        _names("""
        Emma, Julia, Mila, Tess, Sophie, Zoë, Sara, Nora, Yara, Eva, Lotte, Saar, Fleur, Noor, Anouk, Femke, Sanne, Maud,
        Roos, Liesbeth, Marijke, Annemieke, Ingeborg, Truus, Wilhelmina, Chloë, Thaïs, Joëlle, Anne-Marie, Fenna, Noah,
        Liam, Luca, Lucas, Mees, Finn, James, Milan, Levi, Sem, Daan, Noud, Luuk, Bram, Thijs, Joris, Sjoerd, Wouter,
        Maarten, Pieter, Kees, Gijs, Ruben, Jasper, Jeroen, Daniël, Rafaël, Loïs, Jan-Willem, Gert-Jan
        """),
        _names("""
        de Jong, Jansen, de Vries, van den Berg, van Dijk, Bakker, Janssen, Visser, Smit, Meijer, de Boer, Mulder,
        de Groot, Bos, Vos, Peters, Hendriks, van Leeuwen, Dekker, Brouwer, de Wit, Dijkstra, Smits, de Graaf,
        van der Meer, van der Linden, Kok, Jacobs, de Haan, Vermeulen, van den Heuvel, van der Veen, van den Broek,
        de Bruijn, de Bruin, van der Heijden, Schouten, van Beek, Willems, van Vliet, van de Ven, Hoekstra, Maas,
        Verhoeven, Koster, van Dam, van der Wal, Prins, Blom, Huisman, Peeters, de Jonge, Kuipers, van Veen, Post, Kuiper,
        Veenstra, Kramer, van Wijk, ten Brink, ter Horst, op den Akker, in 't Veld, van 't Hof, 't Hart, 's-Gravenmade,
        Claes, Wouters, Goossens, De Smet, Vandenberghe, Daniëls, Coördes, Brouwer-van Dijk, Jansen-de Wit, Özdemir,
        El Idrissi, van der Zanden, Zuiderwijk, Wassenaar
        """),
    ),
}

# By language: how often, an email domain, and places: how often, a time zone, the region's group.
PLACES: dict[str, tuple[int, str, tuple[tuple[int, str, str], ...]]] = {
    "en": (
        30,
        "aldermoor.example",
        (
            (9, "Europe/London", "UK & Ireland"),
            (3, "Europe/Dublin", "UK & Ireland"),
            (7, "America/New_York", "North America"),
            (4, "America/Chicago", "North America"),
            (5, "America/Los_Angeles", "North America"),
        ),
    ),
    "fr": (
        15,
        "fr.aldermoor.example",
        ((10, "Europe/Paris", "France"), (3, "Europe/Brussels", "Benelux"), (2, "America/Toronto", "North America")),
    ),
    "it": (10, "it.aldermoor.example", ((10, "Europe/Rome", "Italy"), (1, "Europe/Zurich", "DACH"))),
    "de": (
        17,
        "de.aldermoor.example",
        ((10, "Europe/Berlin", "DACH"), (3, "Europe/Vienna", "DACH"), (3, "Europe/Zurich", "DACH")),
    ),
    "es": (
        12,
        "es.aldermoor.example",
        (
            (6, "Europe/Madrid", "Iberia"),
            (3, "America/Mexico_City", "Latin America"),
            (2, "America/Bogota", "Latin America"),
        ),
    ),
    "pt": (8, "pt.aldermoor.example", ((3, "Europe/Lisbon", "Iberia"), (6, "America/Sao_Paulo", "Latin America"))),
    "nl": (8, "nl.aldermoor.example", ((8, "Europe/Amsterdam", "Benelux"), (3, "Europe/Brussels", "Benelux"))),
}

# The tree of groups; two spaces are one level.
GROUPS = """
Europe
  Benelux
    Sales Benelux
      Key accounts Benelux
    Support Benelux
    Marketing Benelux
  DACH
    Sales DACH
      Key accounts DACH
      Partners DACH
    Support DACH
    Engineering DACH
  France
    Sales France
      Key accounts France
    Support France
    Marketing France
  Iberia
    Sales Iberia
    Support Iberia
  Italy
    Sales Italy
    Support Italy
  UK & Ireland
    Sales UK & Ireland
      Key accounts UK & Ireland
    Support UK & Ireland
Americas
  Latin America
    Sales Latin America
    Support Latin America
  North America
    Sales North America
      Key accounts North America
    Support North America
Head office
  Finance
  Legal
  People
  IT
    Service desk
    Infrastructure
  Product
    Design
    Quality
Contractors
"""

# How likely somebody who holds any products holds this one; by code.
PRODUCTS = {
    "connect": 0.60,
    "meeting": 0.82,
    "webinar": 0.32,
    "training": 0.22,
    "openvoice": 0.15,
    "resolve": 0.42,
    "rescue": 0.20,
    "assist": 0.10,
    "joinme": 0.08,
    "grasshopper": 0.06,
    "mypc": 0.22,
    "central": 0.08,
}

# Seats of some products: how many are free, as a share of those used. None are: the product is full.
SEATS = {"connect": 0.25, "webinar": 0.02, "training": 0.0, "rescue": 0.01, "mypc": 0.6}

# What admins once did: mode, product codes, in which group, why. Nothing that sends an onboarding email is added.
PAST = (
    ("REMOVE", ("joinme",), "Sales DACH", "Moved to GoTo Meeting"),
    ("ADD", ("resolve",), "IT", "New ticketing since October"),
    ("REMOVE", ("training", "webinar"), "Finance", "Not used for 90 days"),
    ("ADD", ("rescue", "assist"), "Support Benelux", "Remote support pilot"),
    ("REPLACE", (), "Contractors", "Contracts ended"),
)
