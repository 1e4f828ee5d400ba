<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <colorPalette>
        <paletteEntry value="0" color="#6b6b6b" label="road" alpha="255"/>
        <paletteEntry value="1" color="#d7301f" label="building" alpha="255"/>
        <paletteEntry value="2" color="#1b7837" label="tree" alpha="255"/>
        <paletteEntry value="3" color="#a6d96a" label="grass" alpha="255"/>
        <paletteEntry value="4" color="#2b83ba" label="water" alpha="255"/>
        <paletteEntry value="5" color="#d8b365" label="bare ground" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
