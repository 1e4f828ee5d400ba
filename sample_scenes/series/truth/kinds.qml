<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <colorPalette>
        <paletteEntry value="0" color="#e8e8e8" label="unchanged" alpha="255"/>
        <paletteEntry value="1" color="#1b7837" label="felled trees" alpha="255"/>
        <paletteEntry value="2" color="#f4a582" label="removed building" alpha="255"/>
        <paletteEntry value="3" color="#d8b365" label="dug ground" alpha="255"/>
        <paletteEntry value="4" color="#2b83ba" label="flooded field" alpha="255"/>
        <paletteEntry value="5" color="#6b6b6b" label="new road" alpha="255"/>
        <paletteEntry value="6" color="#d7301f" label="new building" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
